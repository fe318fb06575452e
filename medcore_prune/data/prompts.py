"""Box prompts: from masks, moved outward for training, or from a CSV file."""

import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from .._support.errors import DataError
from .._support.files import not_a_file
from .csv_table import read_table

Box = tuple[float, float, float, float]


_CORNERS = ("x0", "y0", "x1", "y1")


def box_from_mask(mask: npt.NDArray[np.bool_]) -> Box:
    """Return the tight box of a mask: its smallest and largest column and row that hold a pixel.

    Args:
        mask: (H, W) bool.

    Returns:
        x0, y0, x1, y1 in image pixels, both ends included.

    Raises:
        DataError: Not two-dimensional, or empty.
    """
    if mask.ndim != 2:
        raise DataError(f"expected a mask of shape (H, W), got {mask.shape}")
    columns, rows = np.flatnonzero(mask.any(axis=0)), np.flatnonzero(mask.any(axis=1))
    if len(columns) == 0:
        raise DataError("an empty mask has no box: leave the sample out, or give its box in a CSV file")
    return float(columns[0]), float(rows[0]), float(columns[-1]), float(rows[-1])


def check_box(box: Sequence[float], shape: tuple[int, int]) -> Box:
    """Return a box x0, y0, x1, y1 in pixels of an image (H, W) as four numbers; its corners may lie outside.

    Refused: not four finite numbers, corners in the wrong order, or wholly outside of the image.
    """
    try:
        x0, y0, x1, y1 = (float(value) for value in box)
    except (TypeError, ValueError):
        raise DataError(f"expected one box of four numbers x0, y0, x1, y1, got {box!r}") from None
    found = (x0, y0, x1, y1)
    if not _is_box(found):
        raise DataError(f"box {found} is no box: expected x0 <= x1 and y0 <= y1 in pixels")
    if is_outside(found, shape):
        height, width = shape
        raise DataError(f"box {found} lies outside of the image of {width} x {height} pixels: expected corners within")
    return found


def is_outside(box: Box, shape: tuple[int, int]) -> bool:
    """Whether a box and an image of (H, W) have nothing in common."""
    (x0, y0, x1, y1), (height, width) = box, shape
    return x1 < 0 or y1 < 0 or x0 >= width or y0 >= height


def _is_box(box: Box) -> bool:
    x0, y0, x1, y1 = box
    return all(map(math.isfinite, box)) and x0 <= x1 and y0 <= y1


def jitter_box(box: Box, shape: tuple[int, int], max_shift_px: float, rng: np.random.Generator) -> Box:
    """Move each side of a box outward by its own uniform draw, never out of the image (METHOD section 11).

    Args:
        box: x0, y0, x1, y1 in pixels of a grid.
        shape: (H, W) of that grid.
        max_shift_px: Largest shift in pixels of that grid; MedSAM trains with 20 of 1024.
        rng: Source of the four draws.

    Returns:
        A box that holds the given one.

    Raises:
        DataError: A negative shift.
    """
    if max_shift_px < 0:
        raise DataError(f"expected max_shift_px >= 0, got {max_shift_px}: boxes are only ever widened")
    height, width = shape
    left, top, right, bottom = rng.uniform(0.0, max_shift_px, 4)
    x0, y0, x1, y1 = box
    # min and max with the given side: a box that already leaves the image is not narrowed either
    return (
        min(x0, max(0.0, x0 - left)),
        min(y0, max(0.0, y0 - top)),
        max(x1, min(float(width), x1 + right)),
        max(y1, min(float(height), y1 + bottom)),
    )


def boxes_from_csv(path: str | os.PathLike[str]) -> dict[str, Box]:
    """Read one box a sample from a CSV file with the columns name, x0, y0, x1, y1 (image pixels).

    Args:
        path: The file; further columns are ignored, names of columns are taken in any case.

    Returns:
        Box of each name.

    Raises:
        DataError: Missing file or columns, rows of more cells than columns, numbers that make no box, a name given
            twice; all rows in one message.
    """
    return {name: box for name, (box,) in _read_boxes(Path(path), several=False).items()}


def all_boxes_from_csv(path: str | os.PathLike[str]) -> dict[str, tuple[Box, ...]]:
    """Read boxes as `boxes_from_csv` does, any number of a name, in the order of the rows."""
    return _read_boxes(Path(path), several=True)


def _read_boxes(path: Path, several: bool) -> dict[str, tuple[Box, ...]]:
    if problem := not_a_file(path):
        raise DataError(f"{path}: {problem}; expected a CSV file with the columns name,{','.join(_CORNERS)}")
    table = read_table(path, ("name", *_CORNERS))
    if missing := [column for column in ("name", *_CORNERS) if column not in table.columns]:
        raise DataError(f"{path}: expected the columns name,{','.join(_CORNERS)}, missing {', '.join(missing)}")
    boxes: dict[str, tuple[Box, ...]] = {}
    problems = []
    for row in table.rows:
        name, box = row.cells["name"], _box_of(row.cells)
        if row.is_too_long:
            problems.append(f"line {row.line}: more cells than columns; write decimals with a point")
        elif not name:
            problems.append(f"line {row.line}: a box without a name")
        elif box is None:
            problems.append(
                f"line {row.line}: {name!r} has no box with x0 <= x1 and y0 <= y1 (corners, not width and height)"
            )
        elif name in boxes and not several:
            problems.append(f"line {row.line}: {name!r} for the second time")
        else:
            boxes[name] = (*boxes.get(name, ()), box)
    if problems:
        raise DataError(f"{path}: " + "; ".join(problems))
    return boxes


def _box_of(cells: Mapping[str, str]) -> Box | None:
    try:
        x0, y0, x1, y1 = (float(cells[column]) for column in _CORNERS)
    except ValueError:
        return None
    return (x0, y0, x1, y1) if _is_box((x0, y0, x1, y1)) else None
