"""Floors: what the box prompt alone gives away."""

import numpy as np
import pytest

from medcore_prune._support.errors import DataError
from medcore_prune.data.prompts import box_from_mask
from medcore_prune.evaluation.floors import box_mask, ellipse_mask


def test_a_box_covers_its_first_and_last_columns_and_rows():
    mask = box_mask((2.0, 1.0, 5.0, 3.0), (6, 8))
    assert box_from_mask(mask) == (2.0, 1.0, 5.0, 3.0)
    assert mask.sum() == 4 * 3


def test_the_ellipse_touches_all_four_sides_and_fills_pi_quarters():
    box = (10.0, 20.0, 109.0, 79.0)
    mask = ellipse_mask(box, (100, 120))
    assert box_from_mask(mask) == box
    assert mask.sum() / box_mask(box, (100, 120)).sum() == pytest.approx(np.pi / 4, abs=0.005)
    np.testing.assert_array_equal(mask, mask[:, ::-1])


def test_a_small_ellipse_by_hand():
    # half sides 2 and 2 about the corner between the middle pixels: centres (0.5, 1.5) off are 2.5 / 4 < 1 away,
    # (1.5, 1.5) off are 4.5 / 4 > 1
    expected = np.ones((4, 4), bool)
    expected[[0, 0, -1, -1], [0, -1, 0, -1]] = False
    np.testing.assert_array_equal(ellipse_mask((0.0, 0.0, 3.0, 3.0), (4, 4)), expected)


@pytest.mark.parametrize("floor", [box_mask, ellipse_mask])
def test_no_floor_is_empty_and_none_leaves_the_grid(floor):
    assert floor((3.0, 2.0, 3.0, 2.0), (6, 8)).nonzero() == ([2], [3])
    # narrower than a pixel, between two centres
    assert floor((2.6, 2.6, 1.8, 1.8), (6, 8)).sum() == 1
    assert floor((-5.0, -5.0, 30.0, 30.0), (6, 8)).sum() > 40
    # all that is left of this ellipse is a corner of its box
    assert floor((6.0, -90.0, 90.0, 0.0), (6, 8)).sum() >= 1


@pytest.mark.parametrize("floor", [box_mask, ellipse_mask])
@pytest.mark.parametrize(
    ("box", "message"),
    [
        ((5.0, 0.0, 2.0, 3.0), "is no box"),
        ((0.0, float("nan"), 2.0, 3.0), "is no box"),
        ((20.0, 0.0, 30.0, 3.0), "outside of the grid of 8 x 6 pixels"),
    ],
)
def test_boxes_that_are_none(floor, box, message):
    with pytest.raises(DataError, match=message):
        floor(box, (6, 8))
