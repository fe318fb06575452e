import numpy as np
import pytest

from medcore_prune._support.errors import DataError
from medcore_prune.commands.work.outputs.overlay import COLOURS, contour, overlay

GRAY = np.full((40, 60, 3), 120, np.uint8)


def square(x0: int, y0: int, x1: int, y1: int) -> np.ndarray:
    mask = np.zeros((40, 60), bool)
    mask[y0 : y1 + 1, x0 : x1 + 1] = True
    return mask


def test_a_contour_is_the_inner_edge_and_the_border_counts() -> None:
    edge = contour(square(10, 5, 20, 15))
    # 11 x 11 pixels have 40 on the edge
    assert edge.sum() == 40
    assert not edge[6:15, 11:20].any()
    assert contour(np.ones((40, 60), bool)).sum() == 2 * 60 + 2 * 38
    assert contour(square(10, 5, 20, 15), 2).sum() == 121 - 49
    assert not contour(np.zeros((4, 4), bool)).any()


def test_contour_and_box_are_drawn_in_the_objects_colour_and_nothing_else_changes() -> None:
    before = GRAY.copy()
    drawn = overlay(GRAY, [square(10, 5, 20, 15), square(30, 20, 50, 35)], [(8, 3, 22, 17), (28, 18, 52, 37)])
    assert np.array_equal(before, GRAY)
    assert tuple(drawn[5, 10]) == COLOURS[0]
    assert tuple(drawn[20, 30]) == COLOURS[1]
    # the box's first corner is on the first dash
    assert tuple(drawn[3, 8]) == COLOURS[0]
    # inside of the mask and far outside the image is as it was
    assert tuple(drawn[10, 15]) == (120, 120, 120)
    assert tuple(drawn[39, 0]) == (120, 120, 120)
    # a dark halo beside the contour
    assert tuple(drawn[6, 11]) == (0, 0, 0)


def test_gray_images_boxes_that_leave_the_image_and_empty_masks_are_drawn() -> None:
    drawn = overlay(GRAY[:, :, 0], [np.zeros((40, 60), bool)], [(-5.0, -5.0, 200.0, 20.4)])
    assert drawn.shape == (40, 60, 3)
    assert (drawn == COLOURS[0]).all(axis=2).any()


def test_what_does_not_belong_together_is_refused() -> None:
    with pytest.raises(DataError, match=r"masks of \(40, 60\) pixels like the image, got \(4, 4\)"):
        overlay(GRAY, [np.zeros((4, 4), bool)], [(0, 0, 1, 1)])
    with pytest.raises(DataError, match="got 1 masks and 0 boxes"):
        overlay(GRAY, [np.zeros((40, 60), bool)], [])
