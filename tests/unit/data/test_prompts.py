"""Boxes from masks, jittered, and from CSV files."""

import numpy as np
import pytest

from medcore_prune._support.errors import DataError
from medcore_prune.data.prompts import box_from_mask, boxes_from_csv, jitter_box


def test_box_names_first_and_last_columns_and_rows(square):
    assert box_from_mask(square(x=3, y=1) > 0) == (3.0, 1.0, 6.0, 4.0)


def test_an_empty_mask_has_no_box():
    with pytest.raises(DataError, match="empty mask has no box"):
        box_from_mask(np.zeros((4, 4), bool))
    with pytest.raises(DataError, match=r"expected a mask of shape \(H, W\)"):
        box_from_mask(np.ones((4, 4, 1), bool))


def test_jitter_only_widens_and_stays_within_the_image():
    rng, shape, box = np.random.default_rng(0), (20, 30), (5.0, 2.0, 27.0, 12.0)
    boxes = np.array([jitter_box(box, shape, 4.0, rng) for _ in range(200)])
    shifts = (boxes - box) * [-1, -1, 1, 1]
    assert shifts.min() >= 0
    assert shifts.max() <= 4
    # each side gets its own draw, over the whole range where the image leaves room
    assert shifts[:, 0].max() > 3.5
    assert len(np.unique(shifts[:, 0] - shifts[:, 3])) == 200
    assert boxes[:, 1].min() == 0
    assert boxes[:, 2].max() == 30


def test_no_jitter_is_no_change_even_of_a_box_beyond_the_image():
    box = (-3.0, 0.0, 40.0, 9.0)
    assert jitter_box(box, (10, 10), 0.0, np.random.default_rng(0)) == box
    with pytest.raises(DataError, match="max_shift_px >= 0"):
        jitter_box(box, (10, 10), -1.0, np.random.default_rng(0))


def test_boxes_from_csv(tmp_path):
    path = tmp_path / "boxes.csv"
    path.write_text("note,name,x0,y0,x1,y1\nhi,a,1,2,3,4.5\n,b,0,0,0,0\n")
    assert boxes_from_csv(path) == {"a": (1.0, 2.0, 3.0, 4.5), "b": (0.0, 0.0, 0.0, 0.0)}


def test_bad_boxes_are_listed_together(tmp_path):
    path = tmp_path / "boxes.csv"
    with pytest.raises(DataError, match="no such file"):
        boxes_from_csv(path)
    path.write_text("name,x0,y0\n")
    with pytest.raises(DataError, match="missing x1, y1"):
        boxes_from_csv(path)
    path.write_text("name,x0,y0,x1,y1\na,1,1,0,5\na,0,0,1,1\na,0,0,1,1\nb,0,0,x,1\nc,0,0,nan,1\nd,0,0\n")
    with pytest.raises(
        DataError, match=r"line 2: 'a' has no box.*line 4: 'a' for the second.*line 5: 'b'.*line 6: 'c'.*7: 'd'"
    ):
        boxes_from_csv(path)


def test_an_empty_cell_at_the_end_of_a_row_is_no_more(tmp_path):
    path = tmp_path / "boxes.csv"
    path.write_text("name,x0,y0,x1,y1\na,1,2,3,4,\n")
    assert boxes_from_csv(path) == {"a": (1.0, 2.0, 3.0, 4.0)}


def test_boxes_with_decimal_commas_are_refused(tmp_path):
    path = tmp_path / "boxes.csv"
    path.write_text("Name, X0,y0,x1,y1\na,1,2,3,4\n\nb,1,5,2,3,4\nc,1,2,3,4,5,6\n")
    with pytest.raises(DataError, match=r"boxes\.csv: line 4: more cells than columns; write .*; line 5: more cells"):
        boxes_from_csv(path)
    path.write_text("Name, X0,y0,x1,y1\na,1,2,3,4\n")
    assert boxes_from_csv(path) == {"a": (1.0, 2.0, 3.0, 4.0)}
    path.write_text("name,x0,y0,x1,y1,X0\na,1,2,3,4,5\n")
    with pytest.raises(DataError, match="expected each column once, got x0 twice"):
        boxes_from_csv(path)
