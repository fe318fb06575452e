"""Calibration and correction read their images one batch ahead, in one other thread, and come to the same numbers."""

import threading
from pathlib import Path

import pytest
import torch
from tiny import tiny_sam
from tiny_samples import TinySamples

import medcore_prune as mp
from medcore_prune.calibration.job import read_batch
from medcore_prune.calibration.sums import Accumulator
from medcore_prune.correction.images import CorrectionImages
from medcore_prune.data.reading import read_images
from medcore_prune.models.families import geometry_of


class Watched(TinySamples):
    """A set that knows in which thread each sample was read."""

    def __init__(self, count: int) -> None:
        super().__init__("a", count, lambda index: self.threads.append(threading.get_ident()))
        self.threads: list[int] = []

    def image_keys(self) -> list[str]:
        return self.ids


def test_a_calibration_sums_what_it_read_ahead_as_one_that_reads_in_turn(tmp_path: Path) -> None:
    model, samples = tiny_sam(), Watched(7)
    statistics = mp.calibrate(
        model, None, {"a": samples}, 7, ["fisher"], batch_size=3, cache_dir=tmp_path, progress=False
    )
    ahead = samples.threads[-7:]
    assert len(set(ahead)) == 1
    assert ahead[0] != threading.get_ident()
    sums, drawn = Accumulator(model, ["fisher"]), samples.read[-7:]
    for start in (0, 3, 6):
        sums.add(*read_batch(samples, [[index] for index in drawn[start : start + 3]], model))
    part = next(iter(statistics.parts))
    assert set(part.names) == set(sums.sums["fisher"])
    for name, wanted in sums.sums["fisher"].items():
        assert torch.equal(part.tensor(name), wanted)


@pytest.mark.parametrize("keep", [False, True])
def test_images_of_a_correction_come_in_order_and_one_batch_ahead(keep: bool) -> None:
    teacher, samples, plainly = tiny_sam(), Watched(7), TinySamples("a", 7)
    images = CorrectionImages(teacher, {"a": samples}, "none", 2, keep=keep)
    for again in (False, True):
        samples.threads.clear()
        for place, (batch, (pixels, boxes, owner)) in enumerate(images.read(images.batches)):
            assert batch is images.batches[place]
            assert len(samples.threads) <= 2 * (place + 2)
            plain = read_images(plainly, batch.read, geometry_of(teacher).frame)
            assert torch.equal(pixels, plain.images)
            assert torch.equal(boxes, plain.boxes)
            assert owner == plain.owner
        assert len(samples.threads) == (0 if keep and again else 7)
        assert threading.get_ident() not in samples.threads
