"""Distances against MONAI, and boundary F1 against a loop over all pairs of boundary pixels."""

import warnings

import numpy as np
import pytest
import torch
from scipy import ndimage

from medcore_prune.evaluation.metrics import evaluate_mask

monai_metrics = pytest.importorskip("monai.metrics")


def blobs(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Two overlapping irregular masks of random size, half of them cut by the image border."""
    rng = np.random.default_rng(seed)
    shape = tuple(rng.integers(20, 70, 2))
    noise = ndimage.gaussian_filter(rng.standard_normal((2, *shape)), (0, 4, 4))
    shared = ndimage.gaussian_filter(rng.standard_normal(shape), 5)
    fields = 0.4 * noise + shared
    masks = fields > np.quantile(fields, rng.uniform(0.5, 0.95))
    if seed % 2:
        masks[:, [0, -1], :] = masks[:, :, [0, -1]] = False
    return masks[0], masks[1]


CASES = [seed for seed in range(40) if all(mask.any() for mask in blobs(seed))]


def slow_boundary(mask: np.ndarray) -> list[tuple[int, int]]:
    height, width = mask.shape
    found = []
    for y, x in zip(*mask.nonzero(), strict=True):
        neighbours = [(y - 1, x), (y + 1, x), (y, x - 1), (y, x + 1)]
        if not all(0 <= v < height and 0 <= u < width and mask[v, u] for v, u in neighbours):
            found.append((y, x))
    return found


def slow_share(one: list, other: list, tolerance: float) -> float:
    near = sum(any((y - v) ** 2 + (x - u) ** 2 <= tolerance**2 for v, u in other) for y, x in one)
    return near / len(one)


def test_there_are_cases_of_both_kinds():
    assert len(CASES) > 30


@pytest.mark.parametrize("seed", CASES)
def test_hd95_is_monais(seed):
    pred, true = blobs(seed)
    one_hot = [torch.from_numpy(mask)[None, None] for mask in (pred, true)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        theirs = monai_metrics.compute_hausdorff_distance(*one_hot, include_background=True, percentile=95)
    assert evaluate_mask(pred, true).hd95_px == pytest.approx(float(theirs), abs=1e-4)


@pytest.mark.parametrize("seed", CASES)
def test_dice_and_iou_are_monais(seed):
    pred, true = blobs(seed)
    one_hot = [torch.from_numpy(mask)[None, None] for mask in (pred, true)]
    got = evaluate_mask(pred, true)
    assert got.dice == pytest.approx(float(monai_metrics.compute_dice(*one_hot)), abs=1e-6)
    assert got.iou == pytest.approx(float(monai_metrics.compute_iou(*one_hot)), abs=1e-6)


@pytest.mark.parametrize("seed", CASES[:8])
def test_boundary_f1_is_that_of_the_loop(seed):
    pred, true = blobs(seed)
    edges = slow_boundary(pred), slow_boundary(true)
    got = evaluate_mask(pred, true, tolerance_px=1.5)
    for value, tolerance in ((got.bf1, 1.5), (got.bf1_1px, 1.0), (got.bf1_3px, 3.0)):
        precision, recall = slow_share(*edges, tolerance), slow_share(*edges[::-1], tolerance)
        assert value == pytest.approx(2 * precision * recall / (precision + recall) if precision + recall else 0.0)
