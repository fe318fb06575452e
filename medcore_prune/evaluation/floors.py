"""Masks that use no network, which a model must beat: the filled box prompt, or its ellipse (METHOD section 9)."""

import numpy as np
import numpy.typing as npt

from .._support.errors import DataError
from ..data.prompts import Box
from .images import EvaluationSet
from .packed import PackedMasks

Offsets = npt.NDArray[np.floating]


def box_mask(box: Box, shape: tuple[int, int]) -> npt.NDArray[np.bool_]:
    """Fill a box of which some lies on the grid (H, W): corners in its pixels, both ends included."""
    across, down, mask = _offsets(box, shape)
    return np.asarray(mask | ((np.abs(down) <= 1.0) & (np.abs(across) <= 1.0)))


def ellipse_mask(box: Box, shape: tuple[int, int]) -> npt.NDArray[np.bool_]:
    """Fill the ellipse inscribed in the box, as `box_mask`."""
    across, down, mask = _offsets(box, shape)
    return np.asarray(mask | (down**2 + across**2 <= 1.0))


def _offsets(box: Box, shape: tuple[int, int]) -> tuple[Offsets, Offsets, npt.NDArray[np.bool_]]:
    """Return columns' (1, W) and rows' (H, 1) offsets from the centre in half sides, and the middle pixel."""
    x0, y0, x1, y1 = (float(v) for v in box)
    height, width = shape
    if not np.isfinite([x0, y0, x1, y1]).all() or x1 + 1 <= x0 or y1 + 1 <= y0:
        raise DataError(f"box {tuple(box)} is no box: expected x0 <= x1 and y0 <= y1 in pixels")
    if x1 + 1 <= 0 or y1 + 1 <= 0 or x0 >= width or y0 >= height:
        raise DataError(
            f"box {tuple(box)} lies outside of the grid of {width} x {height} pixels: expected corners within"
        )
    across = (np.arange(width)[None, :] + 0.5 - (x0 + x1 + 1) / 2) / ((x1 + 1 - x0) / 2)
    down = (np.arange(height)[:, None] + 0.5 - (y0 + y1 + 1) / 2) / ((y1 + 1 - y0) / 2)
    middle = np.zeros(shape, dtype=bool)
    middle[_middle(y0, y1 + 1, height), _middle(x0, x1 + 1, width)] = True
    return across, down, middle


def _middle(start: float, stop: float, length: int) -> int:
    return min(int((max(start, 0.0) + min(stop, float(length))) / 2), length - 1)


FLOORS = {"box": box_mask, "ellipse": ellipse_mask}


def floor_masks(name: str, images: EvaluationSet) -> PackedMasks:
    """Return a mask an image from its box prompt, by a name in `FLOORS`."""
    if name not in FLOORS:
        raise DataError(f"unknown floor {name!r}: expected one of {', '.join(FLOORS)}")
    return PackedMasks([FLOORS[name](place.box, place.grid) for place in images.places])
