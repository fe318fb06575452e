"""`prune --target latency=...` on the pocket model: times are measured once and kept, and held against whole runs.

Seconds say little on a machine that does other work. So one test takes the real clock and asks only that what is said
fits what was found; the others go by a clock that shows the work that the encoder has really done, its FLOPs and the
numbers that it has written, and ask for the ten per cent.
"""

import json
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from click.testing import CliRunner, Result
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry

from medcore_prune.commands.cli import cli
from medcore_prune.evaluation import latency
from medcore_prune.pruning import block_times
from medcore_prune.pruning.times import ALLOWED

NOTE = "note: block times are"


class Work(TorchDispatchMode):
    """Counts what is computed while it is on."""

    def __init__(self) -> None:
        super().__init__()
        self.done = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        if count := flop_registry.get(func._overloadpacket):
            self.done += count(*args, **(kwargs or {}), out_val=out)
        self.done += sum(leaf.numel() for leaf in tree_leaves(out) if isinstance(leaf, Tensor))
        return out


@pytest.fixture
def by_work(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A clock that goes on by what is computed, a nanosecond an operation."""
    with Work() as work:
        clock = SimpleNamespace(**{**vars(time), "perf_counter": lambda: 1e-9 * work.done})
        for module in (block_times, latency):
            monkeypatch.setattr(module, "time", clock)
        yield


@pytest.fixture
def timed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[Tensor]:
    """What block times are measured on, a batch a run; the images lie in `set`."""
    ran: list[Tensor] = []
    real = block_times.timed_parts

    def noticed(model: torch.nn.Module, images: Tensor) -> Any:
        ran.append(images)
        return real(model, images)

    monkeypatch.setattr(block_times, "timed_parts", noticed)
    monkeypatch.chdir(tmp_path)
    drawn = CliRunner().invoke(cli, ["phantoms", "--count", "12", "--out", "set"])
    assert drawn.exit_code == 0, drawn.output
    return ran


def prune(out: str) -> tuple[Result, dict[str, float]]:
    """Cut a third of the time away; what was said, and the check as the report keeps it."""
    words = "prune pocket --data own=set --target latency=33% --method magnitude --calibration 2 --cache cache --out"
    result = CliRunner().invoke(cli, [*words.split(), f"{out}.safetensors"])
    assert result.exit_code == 0, (result.output, result.exception)
    found = json.loads(Path(f"{out}.report.json").read_text())["latency"]
    # made and said, whatever it came to
    shown = f"({found['removed']:.1%} off, {found['predicted']:.1%} expected)"
    assert shown in result.stdout
    assert shown in Path(f"{out}.report.md").read_text()
    assert abs(found["predicted"] - 0.33) < 0.02
    return result, found


def kept() -> list[Path]:
    return list(Path("cache/block_times").glob("*.json"))


def test_what_is_said_of_real_times_fits_what_was_found(timed: list[Tensor]) -> None:
    result, found = prune("small")
    assert min(found["whole_ms"], found["small_ms"]) > 0
    assert found["error"] == pytest.approx((1 - found["predicted"]) / (found["small_ms"] / found["whole_ms"]) - 1)
    holds = abs(found["error"]) <= ALLOWED
    assert (NOTE in result.stderr, len(kept())) == ((False, 1) if holds else (True, 0))
    assert len(timed) % block_times.SIZES == 0


@pytest.mark.usefixtures("by_work")
def test_times_are_measured_once_and_foretell_the_whole_encoder(timed: list[Tensor]) -> None:
    result, first = prune("first")
    assert abs(first["error"]) <= ALLOWED
    assert NOTE not in result.stderr
    (place,) = kept()
    before, runs = place.read_bytes(), len(timed)
    assert runs > 0
    _, second = prune("second")
    assert (len(timed), place.read_bytes()) == (runs, before)
    # both checks ran the encoder, in which nothing is drawn by lot
    assert second == pytest.approx(first, abs=1e-9)


@pytest.mark.usefixtures("by_work")
def test_wrong_times_are_noticed_and_measured_anew(timed: list[Tensor]) -> None:
    prune("first")
    (place,) = kept()
    stored, runs = json.loads(place.read_text()), len(timed)
    for _, _, curve in stored["curves"]:
        # what is whole seems to take twice its time, so that a little less seems to save much
        curve[-1][1] *= 2
    place.write_text(json.dumps(stored))
    result, wrong = prune("wrong")
    # they were believed until the check
    assert len(timed) == runs
    assert abs(wrong["error"]) > ALLOWED
    assert f"{NOTE} {abs(wrong['error']):.0%} off for the whole encoder" in result.stderr
    assert "they are measured anew the next time" in result.stderr
    assert kept() == []
    result, right = prune("right")
    assert (len(timed), len(kept())) == (2 * runs, 1)
    assert abs(right["error"]) <= ALLOWED
    assert NOTE not in result.stderr
