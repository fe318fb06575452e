"""Many samples are summed in cells: here, elsewhere, or here after a kill, the same sums to the bit."""

import pickle
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny import tiny_sam
from tiny_samples import Fixed

import medcore_prune as mp
from medcore_prune._support.errors import StatisticsError
from medcore_prune._support.machines import executor
from medcore_prune.calibration import job
from medcore_prune.calibration.estimate import calibration_estimate
from medcore_prune.calibration.sums import Accumulator
from medcore_prune.data.samples import SampleSet

COUNT = 7
NEEDS = ("fisher", "reference_fisher", "gram", "directional_reset")


class Elsewhere:
    """Runs jobs as other processes would: from what is pickled, none reading what another wrote."""

    apart = True

    def __init__(self, stop: int = -1) -> None:
        self.ran: list[str] = []
        self._stop = stop

    def map(
        self, function: Callable[[Any, Any], Iterable[Any]], context: Any, jobs: Mapping[str, Any]
    ) -> Iterator[Any]:
        packed = {name: pickle.dumps(each) for name, each in jobs.items()}
        for name, each in packed.items():
            if len(self.ran) == self._stop:
                raise KeyboardInterrupt
            self.ran.append(name)
            yield from function(pickle.loads(pickle.dumps(context)), pickle.loads(each))


@pytest.fixture(autouse=True)
def _small_cells(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(job, "CELL", 3)


@pytest.fixture
def elsewhere() -> Iterator[Callable[[Elsewhere], Elsewhere]]:
    tokens = []

    def enter(one: Elsewhere) -> Elsewhere:
        tokens.append(executor._EXECUTOR.set(one))
        return one

    yield enter
    for token in reversed(tokens):
        executor._EXECUTOR.reset(token)


def images(count: int = COUNT) -> SampleSet:
    return mp.data.phantoms.make("phantom_skin", seed=5, count=count, size=48)


class Several(Fixed):
    """Samples of which those named alike before a # show one image."""

    def image_keys(self) -> list[str]:
        return [name.split("#")[0] for name in self.ids]


def several() -> SampleSet:
    """Four images of two, one, two and two objects."""
    found = []
    for number, sample in enumerate(images(4)):
        boxes = [sample.box, (2, 2, 40, 40)][: 1 if number == 1 else 2]
        found += [
            mp.data.Sample("several", f"{number}#{k}", sample.image, sample.mask, box, str(number))
            for k, box in enumerate(boxes)
        ]

    return Several(found)


def calibrate(place: Path, data: Any = None, **options: Any) -> mp.Statistics:
    options = {"samples": COUNT, "needs": NEEDS, "batch_size": 2, "progress": False, **options}
    return mp.calibrate(tiny_sam(), tiny_sam(seed=1), {"a": data or images()}, cache_dir=place, **options)


def files(place: Path) -> dict[str, bytes]:
    return {str(path.relative_to(place)): path.read_bytes() for path in sorted(place.rglob("*.safetensors"))}


def test_cells_add_up_to_the_sums_over_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cells = calibrate(tmp_path / "cells")
    monkeypatch.setattr(job, "CELL", 128)
    whole = calibrate(tmp_path / "whole")
    different = 0
    for one, other in zip(cells.parts, whole.parts, strict=True):
        assert one.header == other.header
        for key in one.names:
            value = other.tensor(key)
            torch.testing.assert_close(one.tensor(key), value, rtol=1e-5, atol=1e-6 * float(value.abs().max()))
            different += not torch.equal(one.tensor(key), value)
    # summed in another order, and rounded so
    assert different


@pytest.mark.parametrize("data", [images, several])
def test_cells_summed_elsewhere_change_no_bit(
    data: Callable[[], SampleSet], tmp_path: Path, elsewhere: Callable[[Elsewhere], Elsewhere]
) -> None:
    here = calibrate(tmp_path / "here", data())
    ran = elsewhere(Elsewhere()).ran
    there = calibrate(tmp_path / "there", data())
    # seven samples of a cell each three through two models; of several an image, whole images: one, two and two, two
    cells = 3 if data is images else 2
    assert len(ran) == 2 * cells
    assert files(tmp_path / "here") == files(tmp_path / "there")
    assert here.counts == there.counts == {"a": COUNT}


@pytest.mark.parametrize("at", range(1, COUNT))
def test_a_calibration_that_was_killed_anywhere_goes_on_to_the_same_bits(
    at: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    once = files(_place(tmp_path / "once", calibrate))
    add, counts = Accumulator.add, list[int]()

    def stopping(self: Accumulator, *args: Any) -> None:
        if len(counts) == stop:
            raise KeyboardInterrupt
        counts.append(len(args[1]))
        add(self, *args)

    monkeypatch.setattr(Accumulator, "add", stopping)
    stop = at
    with pytest.raises(KeyboardInterrupt):
        calibrate(tmp_path / "cut", save_every_s=0.0)
    stop = -1
    calibrate(tmp_path / "cut", save_every_s=0.0)
    # two, one, two, one, one: no batch reaches over the end of a cell, and none is summed twice
    assert counts == [2, 1, 2, 1, 1] * 2
    assert files(tmp_path / "cut") == once


def test_cells_elsewhere_go_on_after_those_that_were_added(
    tmp_path: Path, elsewhere: Callable[[Elsewhere], Elsewhere]
) -> None:
    once = files(_place(tmp_path / "once", calibrate))
    elsewhere(Elsewhere(stop=2))
    with pytest.raises(KeyboardInterrupt):
        calibrate(tmp_path / "cut", save_every_s=0.0)
    left = elsewhere(Elsewhere())
    calibrate(tmp_path / "cut", save_every_s=0.0)
    assert left.ran == ["calibration on a, adapted model, from sample 6"] + [
        f"calibration on a, reference model, from sample {first}" for first in (0, 3, 6)
    ]
    assert files(tmp_path / "cut") == once


def test_a_cell_that_was_begun_here_is_summed_anew_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, elsewhere: Callable[[Elsewhere], Elsewhere]
) -> None:
    once = files(_place(tmp_path / "once", calibrate))
    add, calls = Accumulator.add, list[int]()

    def stopping(self: Accumulator, *args: Any) -> None:
        calls.append(1)
        if len(calls) == 4:
            raise KeyboardInterrupt
        add(self, *args)

    with monkeypatch.context() as patch:
        patch.setattr(Accumulator, "add", stopping)
        with pytest.raises(KeyboardInterrupt):
            calibrate(tmp_path / "cut", save_every_s=0.0)
    left = elsewhere(Elsewhere())
    calibrate(tmp_path / "cut")
    assert left.ran[:2] == [f"calibration on a, adapted model, from sample {first}" for first in (3, 6)]
    assert files(tmp_path / "cut") == once


def counting(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """What every later call of `Accumulator.add` sums."""
    add, counts = Accumulator.add, list[int]()

    def counted(self: Accumulator, *args: Any) -> None:
        counts.append(len(args[1]))
        add(self, *args)

    monkeypatch.setattr(Accumulator, "add", counted)
    return counts


@pytest.mark.parametrize(("fewer", "runs"), [(2, [1, 2, 1, 1]), (3, [2, 1, 1]), (4, [2, 1, 1]), (6, [1])])
def test_more_images_go_on_from_whole_cells_or_the_first_one(
    fewer: int, runs: list[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    once = files(_place(tmp_path / "once", lambda place: calibrate(place, needs=["gram"])))
    calibrate(tmp_path / "grown", samples=fewer, needs=["gram"])
    calibrate(tmp_path / "grown", samples=3, needs=["gram"]) if fewer == 4 else None
    counts = counting(monkeypatch)
    calibrate(tmp_path / "grown", needs=["gram"])
    assert counts == runs
    assert files(tmp_path / "grown").items() >= once.items()


def test_of_very_many_samples_cells_are_larger(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, elsewhere: Callable[[Elsewhere], Elsewhere]
) -> None:
    assert [job.cell_of(count) for count in (1, 3 * 64, 3 * 64 + 1, 6 * 64, 6 * 64 + 1)] == [3, 3, 6, 6, 12]
    monkeypatch.setattr(job, "MOST_CELLS", 2)
    fewer = files(_place(tmp_path / "cut", lambda place: calibrate(place, samples=6, needs=["gram"])))
    once = files(_place(tmp_path / "once", lambda place: calibrate(place, needs=["gram"])))
    counts = counting(monkeypatch)
    # six samples in two cells of three are no cell of six
    calibrate(tmp_path / "cut", needs=["gram"])
    assert counts == [2, 2, 2, 1]
    ran = elsewhere(Elsewhere()).ran
    assert files(_place(tmp_path / "there", lambda place: calibrate(place, needs=["gram"]))) == once
    assert len(ran) == 2
    assert files(tmp_path / "cut") == fewer | once


def test_sums_that_overflow_when_cells_are_added_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    add = Accumulator.add

    def huge(self: Accumulator, *args: Any) -> None:
        add(self, *args)
        next(iter(self.sums["gram"].values())).fill_(3e38)

    monkeypatch.setattr(Accumulator, "add", huge)
    with pytest.raises(StatisticsError, match=r"gram:.* of a overflows"):
        calibrate(tmp_path, needs=["gram"])
    assert not [path for path in files(tmp_path) if "partial" not in path]


def test_the_estimate_counts_the_sums_of_whole_cells() -> None:
    few, many = (calibration_estimate(tiny_sam(), samples=count, needs=["gram"], trial=False) for count in (128, 129))
    assert many.fixed["sums of whole cells"] == many.fixed["sums"] == few.fixed["sums"]
    assert "sums of whole cells" not in few.fixed


def _place(place: Path, calibrate: Callable[[Path], object]) -> Path:
    calibrate(place)
    return place
