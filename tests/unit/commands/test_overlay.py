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


LARGE = np.full((480, 720, 3), 120, np.uint8)


def large(x0: int, y0: int, x1: int, y1: int) -> np.ndarray:
    mask = np.zeros((480, 720), bool)
    mask[y0 : y1 + 1, x0 : x1 + 1] = True
    return mask


def test_contour_and_box_are_drawn_in_the_objects_colour_and_nothing_else_changes() -> None:
    before = LARGE.copy()
    boxes = [(92.0, 42.0, 208.0, 158.0), (292.0, 192.0, 508.0, 358.0)]
    drawn = overlay(LARGE, [large(100, 50, 200, 150), large(300, 200, 500, 350)], boxes)
    assert np.array_equal(before, LARGE)
    assert drawn.shape == LARGE.shape
    for place, (row, column) in enumerate([(50, 100), (200, 300)]):
        # two pixels wide
        assert tuple(drawn[row + 20, column]) == tuple(drawn[row + 20, column + 1]) == COLOURS[place]
        # a dark halo beside the contour
        assert tuple(drawn[row + 20, column + 2]) == (0, 0, 0)
    # the box's first corner is on the first dash
    assert tuple(drawn[42, 92]) == COLOURS[0]
    # inside of the mask and far outside the image is as it was
    assert tuple(drawn[100, 150]) == (120, 120, 120)
    assert tuple(drawn[479, 0]) == (120, 120, 120)


@pytest.mark.parametrize(("size", "times"), [((40, 60), 9), ((256, 192), 2), ((300, 511), 2), ((512, 10), 1)])
def test_small_images_are_enlarged_until_contours_can_be_seen(size: tuple[int, int], times: int) -> None:
    height, width = size
    mask = np.zeros(size, bool)
    mask[3:, 2:-2] = True
    box = (2.0, 3.0, width - 3.0, height - 1.0)
    image = np.random.default_rng(0).integers(0, 255, (height, width, 3), dtype=np.uint8)
    drawn = overlay(image, [mask], [box])
    assert drawn.shape == (height * times, width * times, 3)
    assert max(drawn.shape) >= 512
    line = (drawn == COLOURS[0]).all(axis=2)
    # contour and box lie on the same pixels of the enlarged image, from the first of the object to its last
    rows, columns = np.nonzero(line)
    assert (rows.min(), rows.max()) == (3 * times, height * times - 1)
    assert (columns.min(), columns.max()) == (2 * times, (width - 2) * times - 1)
    middle = line[(height * times) // 2]
    assert middle[2 * times : 2 * times + 2].all()
    # what is not drawn on is the image, every pixel as often
    untouched = ~line & (drawn != 0).all(axis=2)
    assert np.array_equal(drawn[untouched], image.repeat(times, 0).repeat(times, 1)[untouched])


def test_gray_images_boxes_that_leave_the_image_and_empty_masks_are_drawn() -> None:
    drawn = overlay(LARGE[:, :, 0], [np.zeros((480, 720), bool)], [(-5.0, -5.0, 900.0, 20.4)])
    assert drawn.shape == (480, 720, 3)
    assert (drawn == COLOURS[0]).all(axis=2).any()


def test_what_does_not_belong_together_is_refused() -> None:
    with pytest.raises(DataError, match=r"masks of \(40, 60\) pixels like the image, got \(4, 4\)"):
        overlay(GRAY, [np.zeros((4, 4), bool)], [(0, 0, 1, 1)])
    with pytest.raises(DataError, match="got 1 masks and 0 boxes"):
        overlay(GRAY, [np.zeros((40, 60), bool)], [])
