"""What a collector of one's own does wrong is one line with its name, and reaches no other sums and no cache."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner
from tiny import tiny_batch, tiny_sam
from tiny_samples import TinySamples

import medcore_prune as mp
from medcore_prune._support.errors import StatisticsError
from medcore_prune._support.registry import BUILT_IN
from medcore_prune.calibration.collector import collectors
from medcore_prune.calibration.layer_gradients import LayerBatch
from medcore_prune.calibration.sums import Accumulator
from medcore_prune.commands.cli import cli
from medcore_prune.scoring.registry import criteria

PLUGIN = """
import torch

import medcore_prune as mp


@mp.register_collector("firing")
class Firing(mp.Collector):
    powers = {"total": 0}

    @classmethod
    def shapes(cls, model):
        return {f"{group.name_out}.fired": (group.layer_out.in_features,) for group in mp.groups_of(model)}

    def contribute(self, layer_name, batch):
        if layer_name.endswith(("proj", "lin2")):
            key, fired = f"total/{layer_name}.fired", (batch.inputs > 0).sum((0, 1))
            BODY


@mp.register_criterion("share_of_firing", needs=["firing"])
class ShareOfFiring(mp.Criterion):
    cost = "calibration"

    def score(self, group):
        (name,) = self.statistics.datasets
        return self.statistics.mean("firing", name, f"{group.name_out}.fired")[group.out_cols].mean(1)
"""
LAYER = "image_encoder.blocks.3.mlp.lin2"
"""The first layer that a backward pass of the tiny model comes to."""
FAULTS = {
    "raise RuntimeError('no\\nway')": r"failed: RuntimeError: no \(mine\.py, line 18\)",
    "raise SystemExit(3)": r"failed: SystemExit: 3 \(mine\.py, line 18\)",
    "yield key, fired[:, None]": r": contribute yielded shape \(96, 1\) for .*: expected \(96,\), as its shapes say",
    "yield key, fired.sum()": r": contribute yielded shape \(\) for .*: expected \(96,\)",
    "yield key + 's', fired": rf": contribute yielded 'total/{LAYER}.fireds': .* such as 'total/{LAYER}.fired'",
    "return None": rf": contribute returned None for {LAYER}: expected it to yield pairs",
    "return {key: fired}": r": contribute returned dict for .*: expected it to yield pairs",
    "return fired": r": contribute yielded Tensor for .*: expected it to yield pairs",
    "yield key": r": contribute yielded str for .*: expected it to yield pairs",
    "yield key, 1.0": r": contribute yielded str, float for .*: expected it to yield pairs",
    "yield key, fired * 1j": r": contribute yielded torch.complex64 on cpu for .*: expected real numbers on cpu",
    "yield key, fired / 0": rf": contribute yielded NaN or infinity for total/{LAYER}.fired at layer {LAYER}",
}


@pytest.fixture(autouse=True)
def _forget() -> Iterator[None]:
    yield
    for registry, name in ((collectors, "firing"), (criteria, "share_of_firing")):
        if name in registry:
            registry.unregister(name)  # type: ignore[attr-defined]


def written(place: Path, body: str, old: str = "", new: str = "") -> Path:
    (path := place / "mine.py").write_text(PLUGIN.replace("BODY", body).replace(old or "BODY", new))
    return path


def calibrate(cache: Path, *needs: str, model: Any = None, **options: Any) -> mp.Statistics:
    options = {"cache_dir": cache, "progress": False, **options}
    return mp.calibrate(model or tiny_sam(), data={"a": TinySamples("a", 3)}, needs=needs, **options)


def stored(cache: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in cache.rglob("*.safetensors")}


@pytest.mark.parametrize(
    "change",
    [
        "batch.inputs.clamp_(min=0)",
        "batch.inputs.data.clamp_(min=0)",
        "batch.inputs.numpy()[:] = 1",
        "[gradient.zero_() for gradient in batch.gradients]",
        "batch.per_sample[0][0].zero_(); batch.per_sample.clear()",
        "batch.per_sample.clear()",
    ],
)
def test_what_a_collector_changes_is_its_own_copy(tmp_path: Path, change: str) -> None:
    needs = ["mean_gradient", "fisher", "gram", "directional_zero"]
    calibrate(tmp_path / "alone", *needs)
    # by its name it comes before some of the built-in ones
    mp.load_plugin(written(tmp_path, f"yield key, fired; {change}"))
    calibrate(tmp_path / "beside", *needs, "firing")
    alone, beside = stored(tmp_path / "alone"), stored(tmp_path / "beside")
    assert len(alone) == len(needs)
    assert alone.items() <= beside.items()


@pytest.mark.parametrize("name", [entry.name for entry in collectors.entries() if entry.origin == BUILT_IN])
def test_the_built_in_ones_change_nothing(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    sums = Accumulator(tiny_sam(), (name,), reference=tiny_sam(1))
    collector, seen = sums._collectors[name], []
    contribute = collector.contribute

    def spy(layer_name: str, batch: LayerBatch) -> Iterator[tuple[str, torch.Tensor]]:
        tensors = [batch.inputs, *batch.gradients, *(tensor for pair in batch.per_sample for tensor in pair)]
        before = [tensor.clone() for tensor in tensors]
        yield from contribute(layer_name, batch)
        seen.append(all(map(torch.equal, before, tensors)))

    monkeypatch.setattr(collector, "contribute", spy)
    sums.add(*tiny_batch(2))
    assert seen
    assert all(seen)


@pytest.mark.parametrize("body", FAULTS)
def test_a_fault_is_one_line_and_nothing_is_stored(tmp_path: Path, body: str) -> None:
    mp.load_plugin(written(tmp_path, body))
    for options in ({}, {"progress": True}, {"save_every_s": 0.0, "batch_size": 1}):
        with pytest.raises(StatisticsError, match=rf"^collector 'firing' ?{FAULTS[body]}") as caught:
            calibrate(tmp_path / "cache", "fisher", "firing", **options)
        assert "\n" not in str(caught.value)
    assert not stored(tmp_path / "cache")


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("return {f", "return no_such_name or {f", "NameError: name 'no_such_name' is not defined .mine.py, line 13"),
        ("    @classmethod", "    __init__ = None\n\n    @classmethod", "TypeError: "),
    ],
)
def test_so_is_a_fault_in_its_other_parts(tmp_path: Path, old: str, new: str, says: str) -> None:
    mp.load_plugin(written(tmp_path, "yield key, fired", old, new))
    with pytest.raises(StatisticsError, match=rf"^collector 'firing' failed: {says}"):
        calibrate(tmp_path / "cache", "firing")


def test_a_sum_that_overflows_is_the_collectors(tmp_path: Path) -> None:
    mp.load_plugin(written(tmp_path, "yield key, torch.full(fired.shape, 3e38)"))
    with pytest.raises(StatisticsError, match=r"^collector 'firing': the sum total/.* over a is NaN or infinity: have"):
        calibrate(tmp_path / "cache", "firing", batch_size=1)
    assert not stored(tmp_path / "cache")


def test_the_command_says_it_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MEDCORE_PRUNE_CACHE", str(tmp_path / "cache"))
    plugin = written(tmp_path, "yield key, fired[:, None]")
    words = ["prune", "--calibration", "2", "--plugin", str(plugin), "--method", "share_of_firing"]
    error = CliRunner().invoke(cli, words).exception
    assert isinstance(error, StatisticsError)
    assert str(error).startswith("collector 'firing': contribute yielded shape")
    assert "\n" not in str(error)
