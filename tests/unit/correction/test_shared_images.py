"""A correction on images with several samples each carries every image once, and is that of the samples one by one."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
import torch
from tiny import tiny_sam
from tiny_samples import OneByOne, TinySamples, several_boxes
from torch import nn

import medcore_prune as mp
from medcore_prune.correction.search.divergence import Divergence
from medcore_prune.models.families import encoder_of


@contextmanager
def counted(part: nn.Module, runs: list[int]) -> Iterator[None]:
    """Note how many images a part of a model runs on; by its class, since hooks on a model are refused."""
    kind, forward = type(part), type(part).forward

    def counting(self: nn.Module, images: torch.Tensor) -> torch.Tensor:
        if self is part:
            runs.append(len(images))
        return forward(self, images)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kind, "forward", counting)
        yield


def both(work: Callable[[nn.Module, object], object]) -> tuple[object, object, list[int]]:
    """A work on images shared, and on samples one by one, and how many images the encoder of the teacher saw."""
    samples, teacher, seen, found = several_boxes(3, 2), tiny_sam(), list[int](), []
    # an image with a single sample weighs less
    samples = mp.data.Subset(samples, (0, 1, 2, 3, 4), samples.name)
    for each in (samples, OneByOne(list(samples))):
        runs: list[int] = []
        with counted(encoder_of(teacher).patch_embed, runs):
            found.append(work(teacher, {"a": each, "b": TinySamples("b", 2)}))
        seen.append(sum(runs))
    return found[0], found[1], seen


@pytest.mark.parametrize("weighting", ["none", "band", "gradient_norm"])
def test_weights_are_those_of_the_samples_one_by_one(weighting: str) -> None:
    small: list[nn.Module] = []

    def work(teacher: nn.Module, data: object) -> mp.CorrectionReport:
        small.append(mp.prune(teacher, mp.make_plan(teacher, "h50_m70")))
        return mp.correct(small[-1], teacher, data, weighting=weighting, batch_size=2, progress=False)  # type: ignore[arg-type]

    shared, alone, seen = both(work)
    assert seen[0] < seen[1]
    # factors of a head may change their sign together, so that what they compute is compared
    shown = torch.rand((2, 3, 48, 48), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        one, other, uncut = (encoder_of(each.eval())(shown) for each in (*small, tiny_sam()))
    assert float((one - other).norm() / one.norm()) < 1e-4 < 1e-2 < float((one - uncut).norm() / one.norm())
    assert isinstance(shared, mp.CorrectionReport)
    assert isinstance(alone, mp.CorrectionReport)
    assert (shared.images, shared.layers[0].tokens) == (alone.images, alone.layers[0].tokens)
    assert shared.stream_error == pytest.approx(alone.stream_error, rel=1e-3)
    assert shared.state_bytes == alone.state_bytes * 5 // 7


def test_a_divergence_is_that_of_the_samples_one_by_one() -> None:
    def work(teacher: nn.Module, data: object) -> float:
        with torch.no_grad():
            return Divergence(teacher, data, batch_size=2).of(tiny_sam(3))  # type: ignore[arg-type]

    shared, alone, seen = both(work)
    assert shared == pytest.approx(alone, rel=1e-6)
    assert seen == [3 + 2, 5 + 2]


def test_whole_blocks_are_fitted_on_images() -> None:
    def work(teacher: nn.Module, data: object) -> mp.CorrectionReport:
        small = mp.prune(teacher, mp.make_plan(teacher, "h50_m70"))
        return mp.correct(small, teacher, data, fit_steps=4, progress=False)  # type: ignore[arg-type]

    shared, _, _ = both(work)
    assert isinstance(shared, mp.CorrectionReport)
    assert all(block.fitted_after <= block.fitted_before * 1.5 for block in shared.blocks)
