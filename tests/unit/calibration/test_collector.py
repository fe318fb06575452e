"""Collectors of one's own: a criterion whose statistic is in the same file, from plug-in to plan."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from tiny import tiny_sam
from tiny_samples import TinySamples

import medcore_prune as mp
from medcore_prune._support.errors import RegistryError, StatisticsError
from medcore_prune.benchmarks.runner.methods import Method
from medcore_prune.calibration.collector import collectors, layout_of
from medcore_prune.data.frame import Frame
from medcore_prune.models.protocol import batch_of
from medcore_prune.scoring.registry import criteria

PLUGIN = '''
"""Weights times the norm of what they read (Sun et al. 2023, arXiv 2306.11695), on columns of proj and lin2."""

import medcore_prune as mp


@mp.register_collector("my_squares", source="arXiv 2306.11695")
class InputSquares(mp.Collector):
    """Sum over tokens of each input's square."""

    powers = {"total": 0}

    @classmethod
    def shapes(cls, model):
        return {f"{group.name_out}.squares": (group.layer_out.in_features,) for group in mp.groups_of(model)}

    def contribute(self, layer_name, batch):
        if layer_name.endswith(("proj", "lin2")):
            yield f"total/{layer_name}.squares", batch.inputs.square().sum((0, 1)) * SCALE


@mp.register_criterion("weight_times_input", needs=["my_squares"])
class WeightTimesInput(mp.Criterion):
    cost = "calibration"

    def score(self, group):
        squares = self.statistics.mean("my_squares", "a", f"{group.name_out}.squares")
        columns = group.layer_out.weight.detach().abs().sum(0) * squares.sqrt()
        return columns[group.out_cols].sum(1)
'''


@pytest.fixture
def plugin(tmp_path: Path) -> Iterator[Path]:
    """A plug-in file; what it registered is forgotten afterwards."""
    path = tmp_path / "mine.py"
    path.write_text(PLUGIN.replace("SCALE", "1.0"))
    yield path
    for registry, name in ((collectors, "my_squares"), (criteria, "weight_times_input")):
        if name in registry:
            registry.unregister(name)


def collected(cache: Path, *needs: str) -> mp.Statistics:
    return mp.calibrate(tiny_sam(), data={"a": TinySamples("a", 5)}, needs=needs, cache_dir=cache, progress=False)


def test_a_criterion_with_a_statistic_of_its_own_is_one_file(plugin: Path, tmp_path: Path) -> None:
    assert mp.load_plugin(plugin) == ["my_squares", "weight_times_input"]
    recipe = mp.get_baseline("weight_times_input")
    assert recipe.needs == {"my_squares"}
    model, statistics = tiny_sam(), collected(tmp_path / "cache", "my_squares")
    assert statistics.has(mp.Need("my_squares"))
    assert not statistics.has(mp.Need.FISHER)
    scores = mp.unit_scores(recipe.build(statistics, model), model)
    # the same by running the model and keeping what enters the layers
    read: dict[str, torch.Tensor] = {}
    group = mp.groups_of(model)[1]
    handle = group.layer_out.register_forward_pre_hook(lambda _module, args: read.update(x=args[0].detach()))
    samples = [TinySamples("a", 5)[index] for index in range(5)]
    images, _ = batch_of([(sample.image, sample.box) for sample in samples], Frame(48))
    model.image_encoder(images)
    handle.remove()
    wanted = group.layer_out.weight.detach().abs().sum(0) * read["x"].flatten(0, -2).square().sum(0).div(5).sqrt()
    torch.testing.assert_close(scores[0, "neurons"].float(), wanted, rtol=1e-4, atol=1e-6)
    plan = mp.plan(model, "h50_m50", "weight_times_input", statistics=statistics)
    assert mp.verify(model, plan, images) < 1e-5
    gone = set(range(group.n_units)) - set(plan.blocks[0].keep("neurons"))
    assert gone == set(scores[0, "neurons"].argsort()[: len(gone)].tolist())


def test_sums_of_an_older_collector_are_not_taken_for_those_of_its_new_code(plugin: Path, tmp_path: Path) -> None:
    name = f"{mp.groups_of(tiny_sam())[0].name_out}.squares"
    found, fingerprints = [], set()
    for scale in ("1.0", "2.0"):
        (other := tmp_path / f"mine_{scale[0]}.py").write_text(PLUGIN.replace("SCALE", scale))
        mp.load_plugin(other)
        found.append(collected(tmp_path / "cache", "my_squares").mean("my_squares", "a", name))
        fingerprints.add(Method("mine", mp.get_baseline("weight_times_input"), "user", (0,)).fingerprint)
        collectors.unregister("my_squares")
        criteria.unregister("weight_times_input")
    torch.testing.assert_close(found[1], 2 * found[0])
    # results that were stored with the old code are not taken for the new one's either
    assert len(fingerprints) == 2


def test_statistics_say_when_their_collector_is_missing(plugin: Path, tmp_path: Path) -> None:
    mp.load_plugin(plugin)
    statistics = collected(tmp_path / "cache", "my_squares")
    assert layout_of("my_squares") is mp.get_collector("my_squares")
    collectors.unregister("my_squares")
    assert layout_of("my_squares") is None
    with pytest.raises(StatisticsError, match="no collector is called 'my_squares': load the plug-in"):
        statistics.mean("my_squares", "a", "any")


@pytest.mark.parametrize("name", ["gramm", "gradient", ""])
def test_unknown_needs_are_refused_with_all_names(name: str, tmp_path: Path) -> None:
    with pytest.raises(RegistryError, match=f"unknown need '{name}'.*mean_gradient"):
        mp.Need(name)
    with pytest.raises(RegistryError, match="unknown need"):
        collected(tmp_path, name)


def test_what_is_no_collector_is_refused() -> None:
    with pytest.raises(RegistryError, match="collector 'mine': expected a subclass of Collector"):
        mp.register_collector("mine")(dict)  # type: ignore[type-var]

    class Half(mp.Collector):
        powers = {"total": 0}  # noqa: RUF012

    with pytest.raises(RegistryError, match="collector 'mine' lacks powers, shapes or contribute"):
        mp.register_collector("mine")(Half)
    with pytest.raises(RegistryError, match="collector name 'gram' is taken"):
        mp.register_collector("gram")(mp.get_collector("fisher"))


def test_needs_are_their_names() -> None:
    assert mp.Need("gram") == "gram" == str(mp.Need.GRAM)
    assert repr(mp.Need("reference_fisher")) == "Need.REFERENCE_FISHER"
    assert {mp.Need.GRAM, "gram"} == {"gram"}
    assert [n.needs_reference for n in (mp.Need.FISHER, mp.Need.REFERENCE_WEIGHTS, mp.Need.DIRECTIONAL_RESET)] == [
        False,
        True,
        True,
    ]
