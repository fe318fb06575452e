"""Boundary leverage again, pixel by pixel in float64, and Theorem 3.3 against contours that are known."""

import math

import numpy as np
import pytest
import torch
from displaced import Map, slowly_displaced

from medcore_prune.evaluation.contour import contour_points, measured_displacement, predicted_displacement
from medcore_prune.evaluation.leverage import Before, BoundaryLeverage

SIDE = 40


def bumpy(seed: int) -> Map:
    """A smooth map that is positive in a blob and negative around it."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:SIDE, :SIDE].astype(float)
    waves = sum(rng.normal() * np.sin(rng.uniform(0.05, 0.3) * x + rng.uniform(0.05, 0.3) * y) for _ in range(4))
    return 3 - 0.35 * np.hypot(y - 19, x - 21) + 0.3 * waves


@pytest.mark.parametrize("band_px", [1, 3])
def test_boundary_leverage_is_its_definition(band_px: int) -> None:
    pairs = [(bumpy(seed), bumpy(seed) + 0.1 * bumpy(seed + 10)) for seed in range(3)]
    truths = [bumpy(seed + 20) > 0 for seed in range(3)]
    pooled = sorted(
        value for (b, a), t in zip(pairs, truths, strict=True) for value in slowly_displaced(b, a, t, band_px)
    )
    expected = pooled[math.ceil(0.95 * len(pooled)) - 1] / 7.5
    before, after = (torch.tensor(np.stack(maps)[:, None]) for maps in zip(*pairs, strict=True))
    truth = torch.tensor(np.stack(truths)[:, None])
    built = BoundaryLeverage(7.5)
    for part in (slice(0, 2), slice(2, 3)):  # in batches of two and one
        built.add(Before.of(before[part], truth[part], band_px=band_px), after[part])
    assert built.values.count == len(pooled)
    assert built.quantile() == pytest.approx(expected, rel=1e-6)
    assert built.mean() == pytest.approx(sum(pooled) / len(pooled) / 7.5, rel=1e-6)


def disc(radius: float, gain: float = 1.0) -> Map:
    """Signed distance to a circle, positive inside, in logits of any gain: its slope is the gain everywhere."""
    y, x = np.mgrid[:64, :64].astype(float)
    return gain * (radius - np.hypot(y - 31.3, x - 30.7))


@pytest.mark.parametrize("shrunk_px", [-3.0, 0.4, 2.0])
def test_a_circle_that_shrinks_moves_its_contour_by_as_much(shrunk_px: float) -> None:
    before, after = disc(17.0, gain=0.3), disc(17.0 - shrunk_px, gain=0.3)
    points = contour_points(before)
    assert len(points) > 80
    np.testing.assert_allclose(measured_displacement(points, before, after), shrunk_px, atol=0.03)
    np.testing.assert_allclose(predicted_displacement(points, before, after), shrunk_px, atol=0.03)


def test_the_measured_displacement_does_not_depend_on_the_slope_after() -> None:
    before, after = disc(17.0, gain=0.3), disc(15.5, gain=4.0)
    points = contour_points(before)
    np.testing.assert_allclose(measured_displacement(points, before, after), 1.5, atol=0.03)
    # to first order delta is read at the old contour, where the new map is 4 * -1.5
    np.testing.assert_allclose(predicted_displacement(points, before, after), 4.0 * 1.5 / 0.3, rtol=0.03)


def test_theorem_holds_to_first_order_and_no_further() -> None:
    before, change = bumpy(0), bumpy(5)
    points = contour_points(before)
    errors = []
    for size in (0.02, 0.04, 0.08):
        after = before + size * change
        gap = predicted_displacement(points, before, after) - measured_displacement(points, before, after)
        errors.append(float(np.nanmedian(np.abs(gap))) / size)
    # a first-order rule: the error relative to the step falls with the step
    assert errors[0] < errors[1] < errors[2]


def test_a_contour_that_is_gone_is_not_measured() -> None:
    before = disc(10.0)
    points = contour_points(before)
    assert np.isnan(measured_displacement(points, before, before - 100)).all()
    assert contour_points(before - 100).shape == (0, 2)
