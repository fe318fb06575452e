"""Metrics on masks drawn by hand, with the numbers derived beside them, and properties that must hold for any masks."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from medcore_prune._support.errors import MetricError
from medcore_prune.data.masks import resize_mask
from medcore_prune.evaluation.metrics import boundary, boundary_distances, evaluate_mask


def drawn(text: str) -> np.ndarray:
    """Turn rows of `.` and `#` into a mask."""
    return np.array([[pixel == "#" for pixel in row] for row in text.split()])


EMPTY = np.zeros((6, 8), bool)
FULL = np.ones((6, 8), bool)

SQUARE = drawn("""
........
.####...
.####...
.####...
.####...
........""")
SHIFTED = np.roll(SQUARE, 1, axis=1)


def test_a_square_shifted_by_one_pixel():
    # areas 16 and 16, in common 4 x 3 = 12: Dice 24 / 32, IoU 12 / 20
    # each boundary has 12 pixels; of the shifted one, the upper and lower row lie on the other's rows except for the
    # corner that sticks out: 2 x 3 = 6 at distance 0, the other 6 at distance 1; by symmetry the same back
    got = evaluate_mask(SHIFTED, SQUARE, tolerance_px=0.5)
    assert (got.dice, got.iou) == (0.75, 0.6)
    assert got.bf1 == 0.5
    assert got.bf1_1px == got.bf1_3px == 1.0
    # 95 % of the way through six 0s and six 1s lies between two 1s
    assert got.hd95_px == 1.0
    assert got.hd95_percent == pytest.approx(100 / np.hypot(6, 8))
    assert got.empty == "none"


def test_single_pixels_three_and_four_apart_are_five_apart():
    pred, true = np.zeros((2, 6, 8), bool)
    pred[1, 1] = true[4, 5] = True
    assert evaluate_mask(pred, true).hd95_px == 5.0
    assert evaluate_mask(pred, true, tolerance_px=5.0).bf1 == 1.0
    assert evaluate_mask(pred, true, tolerance_px=4.9).bf1 == 0.0


def test_the_percentile_and_the_two_directions():
    # a line of 21 pixels against its first pixel: distances 0, 1, ..., 20 there, whose 95th percentile is 19; 0 back
    pred, true = np.zeros((2, 5, 30), bool)
    pred[2, 4:25] = True
    true[2, 4] = True
    got = evaluate_mask(pred, true, tolerance_px=2.0)
    assert got.hd95_px == 19.0
    # precision 3 / 21, recall 1: 2 (1/7) / (8/7)
    assert got.bf1 == pytest.approx(0.25)
    # 1 px: 2 (2/21) / (23/21); 3 px: 2 (4/21) / (25/21)
    assert got.bf1_1px == pytest.approx(4 / 23)
    assert got.bf1_3px == pytest.approx(8 / 25)
    there, back = boundary_distances(pred, true)
    assert sorted(there) == list(range(21))
    assert back.tolist() == [0.0]


def test_boundary_is_what_a_plus_erodes_and_the_image_border_counts():
    assert np.array_equal(boundary(SQUARE), SQUARE & ~drawn("........ ........ ..##.... ..##.... ........ ........"))
    ring = np.ones((6, 8), bool)
    ring[1:-1, 1:-1] = False
    assert np.array_equal(boundary(FULL), ring)
    # a diagonal neighbour outside of the mask is no reason to be boundary
    notched = np.ones((5, 5), bool)
    notched[0, 0] = False
    assert not boundary(notched)[1, 1]


def test_tolerances_scale_with_the_grid():
    pred, true = np.zeros((2, 512, 512), bool)
    pred[100:200, 100:200] = true[106:206, 100:200] = True
    # 6 px apart on a grid twice as fine are 3 px of the 256 grid
    fine = evaluate_mask(pred, true, tolerance_px=2.0, pixel_scale=2.0)
    coarse = evaluate_mask(pred[::2, ::2], true[::2, ::2], tolerance_px=2.0)
    assert fine.bf1_3px == coarse.bf1_3px == 1.0
    assert fine.bf1 < 1
    assert fine.hd95_px == 2 * coarse.hd95_px == 6.0
    assert fine.hd95_percent == pytest.approx(coarse.hd95_percent)


@pytest.mark.parametrize(("pred", "true"), [(EMPTY, SQUARE), (SQUARE, EMPTY)])
def test_one_empty_mask_is_the_worst(pred, true):
    got = evaluate_mask(pred, true)
    assert got.dice == got.iou == got.bf1 == got.bf1_1px == got.bf1_3px == 0.0
    assert (got.hd95_px, got.hd95_percent, got.empty) == (10.0, 100.0, "one")


def test_both_empty_is_perfect():
    got = evaluate_mask(EMPTY, EMPTY)
    assert got.dice == got.iou == got.bf1 == got.bf1_1px == got.bf1_3px == 1.0
    assert (got.hd95_px, got.hd95_percent, got.empty) == (0.0, 0.0, "both")


def test_masks_that_cannot_be_compared():
    with pytest.raises(MetricError, match=r"expected a mask \(H, W\) of bool, got uint8"):
        evaluate_mask(SQUARE.astype(np.uint8), SQUARE)
    with pytest.raises(MetricError, match=r"got bool of shape \(1, 6, 8\)"):
        evaluate_mask(SQUARE, SQUARE[None])
    with pytest.raises(MetricError, match=r"expected masks of one shape, got \(6, 8\) and \(5, 8\): use resize_mask"):
        evaluate_mask(SQUARE, SQUARE[1:])
    with pytest.raises(MetricError, match="expected tolerance_px >= 0"):
        evaluate_mask(SQUARE, SQUARE, tolerance_px=-1)
    with pytest.raises(MetricError, match="an empty mask has no boundary"):
        boundary_distances(EMPTY, SQUARE)


def test_resizing_keeps_pixels_that_are_more_than_half_covered():
    # blocks with 4, 3, 2 and 1 of 4 pixels: exactly half is not more than half
    blocks = drawn("#### ###. #.#. #...")
    assert np.array_equal(resize_mask(blocks, 2), drawn("## .."))
    # 3 columns to 2: a cell takes one whole column and half of the middle one
    assert np.array_equal(resize_mask(drawn("#.. #.. #.."), 2), drawn("#. #."))
    assert not resize_mask(drawn(".#. .#. .#."), 2).any()


def test_resizing_up_repeats_and_the_same_size_is_a_copy():
    small = drawn("#. .#")
    assert np.array_equal(resize_mask(small, 4), drawn("##.. ##.. ..## ..##"))
    same = resize_mask(small, 2)
    assert np.array_equal(same, small)
    assert not np.shares_memory(same, small)
    with pytest.raises(MetricError, match="at least 1 pixel a side, got 0"):
        resize_mask(small, 0)


masks = arrays.arrays(np.bool_, (7, 9))
some = masks.filter(np.any)
tolerances = st.floats(0, 12)


@settings(max_examples=60, deadline=None)
@given(pred=masks, true=masks, tolerance=tolerances)
def test_symmetric_and_within_bounds(pred, true, tolerance):
    there = evaluate_mask(pred, true, tolerance_px=tolerance)
    assert there == evaluate_mask(true, pred, tolerance_px=tolerance)
    assert 0 <= there.iou <= there.dice <= 1
    assert 0 <= there.bf1 <= 1
    assert 0 <= there.hd95_percent <= 100 + 1e-9


@settings(max_examples=30, deadline=None)
@given(mask=masks)
def test_a_mask_agrees_with_itself(mask):
    got = evaluate_mask(mask, mask, tolerance_px=0.0)
    assert got.dice == got.iou == got.bf1 == got.bf1_1px == 1
    assert got.hd95_px == 0


@settings(max_examples=40, deadline=None)
@given(pred=some, true=some, down=st.integers(1, 6), right=st.integers(1, 6))
def test_moving_both_masks_changes_nothing(pred, true, down, right):
    def placed(mask, y, x):
        canvas = np.zeros((16, 18), bool)
        canvas[y : y + 7, x : x + 9] = mask
        return canvas

    assert evaluate_mask(placed(pred, 1, 1), placed(true, 1, 1)) == evaluate_mask(
        placed(pred, down, right), placed(true, down, right)
    )


@settings(max_examples=40, deadline=None)
@given(pred=some, true=some, low=tolerances, high=tolerances)
def test_a_larger_tolerance_never_lowers_boundary_f1(pred, true, low, high):
    low, high = sorted((low, high))
    assert evaluate_mask(pred, true, tolerance_px=low).bf1 <= evaluate_mask(pred, true, tolerance_px=high).bf1
    # no two pixels of a 7 x 9 image are further apart than its diagonal
    assert evaluate_mask(pred, true, tolerance_px=12.0).bf1 == 1
