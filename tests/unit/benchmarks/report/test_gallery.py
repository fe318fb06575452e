"""Contours as shares of width and height."""

import numpy as np
import pytest

from medcore_prune.benchmarks.report.gallery import _small, contours


def _area(line: list[list[float]]) -> float:
    x, y = np.array(line).T
    return abs(float(np.sum(x[:-1] * y[1:] - x[1:] * y[:-1]))) / 2


def test_the_outline_of_a_rectangle_encloses_it() -> None:
    mask = np.zeros((40, 80), bool)
    mask[10:30, 20:60] = True
    (line,) = contours(mask)
    assert line[0] == line[-1]
    # corners are cut by half a pixel
    assert _area(line) == pytest.approx(0.25, abs=0.01)
    x, y = np.array(line).T
    assert (x.min(), x.max()) == pytest.approx((0.25, 0.75), abs=0.01)
    assert (y.min(), y.max()) == pytest.approx((0.25, 0.75), abs=0.03)


def test_outlines_close_at_the_border_and_holes_have_their_own() -> None:
    mask = np.ones((20, 20), bool)
    assert len(contours(mask)) == 1
    mask[5:10, 5:10] = False
    assert len(contours(mask)) == 2


def test_an_empty_mask_has_no_outline() -> None:
    assert contours(np.zeros((5, 5), bool)) == []


@pytest.mark.parametrize(("shape", "expected"), [((600, 300, 3), (256, 128, 3)), ((60, 30, 3), (60, 30, 3))])
def test_pictures_are_made_small_and_never_larger(shape: tuple[int, ...], expected: tuple[int, ...]) -> None:
    image = np.full(shape, 77, np.uint8)
    small = _small(image)
    assert small.shape == expected
    assert small.dtype == np.uint8
    assert (small == 77).all()
