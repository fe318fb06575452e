"""What the values of a mask file mean: object or background, labels or shades."""

from functools import lru_cache
from pathlib import Path
from typing import Literal, TypeAlias

import numpy as np
import numpy.typing as npt
import torch.nn.functional as F
from scipy import sparse
from torch import Tensor

from .._support.errors import DataError, MetricError
from ..defaults import DEFAULTS
from .mask_checks import bright_levels, photograph

MaskThreshold: TypeAlias = float | Literal["half"] | None
"""Stored value above which a mask is object, half of its range, or what the values tell."""

_FEW = 32  # distinct colours up to which a lossless mask is taken for classes rather than shades


def binarise(values: npt.NDArray[np.generic], lossy: bool = False) -> npt.NDArray[np.bool_]:
    """Cut (H, W) mask values into object and background by the rule of `read_mask`."""
    if values.dtype == np.bool_:
        return values.astype(bool)
    numbers = values.astype(np.float64) if values.dtype.kind == "f" else values
    peak = float(numbers.max(initial=0))
    full = _full_range(values.dtype, peak)
    whole = numbers.dtype.kind in "iu" or np.array_equal(numbers, np.rint(numbers))
    labels = (whole and peak <= full / 2) or bool(np.all((numbers == 0) | (numbers == peak)))
    return np.greater(numbers, 0 if labels and not lossy else full / 2)


def cut(values: npt.NDArray[np.generic], threshold: MaskThreshold, path: Path) -> npt.NDArray[np.bool_]:
    """Cut (H, W, C) mask values at a threshold that the user gives, or at half of their range."""
    channel = one_channel(values, path)
    if threshold == "half" or threshold is None:
        return binarise(channel)
    if not 0 <= threshold < float("inf"):
        raise DataError(f"expected a mask threshold of at least 0, got {threshold}")
    return np.asarray(channel.astype(np.float64) > threshold)


def refuse_lost_labels(values: npt.NDArray[np.generic], path: Path) -> None:
    """Refuse (H, W) whole numbers that `binarise` would cut although some below the cut are labels.

    Few values (up to 32) that do not all lie in the lower half of the range may be a soft edge or labels. An edge is
    thin: a value in the lower half that fills a patch of 3 x 3 pixels is a label. Low values, up to an eighth of the
    range, do so around an edge that was resized as well (the ringing of bicubic and Lanczos filters); but then the edge
    itself shows as thin shades above them. Without any such shade they are labels, and 1 is one wherever it is. What is
    object and what is not is then anybody's guess.
    """
    if values.dtype.kind not in "iuf":
        return
    found = np.setdiff1d(_distinct(values), 0)
    if not 1 < len(found) <= _FEW or not np.array_equal(found, np.rint(found)):
        return
    full = _full_range(values.dtype, float(found[-1]))
    low, half = full / 8, full / 2
    if found[-1] <= half:
        return
    flat = _inner_values(values)
    thin = np.setdiff1d(found[:-1], flat)
    is_resized = bool(np.any(thin > low))
    as_labels = flat[(flat != 0) & (flat <= half) & ~(is_resized & (flat <= low))]
    if len(as_labels) or (found[0] == 1 and not is_resized):
        raise DataError(
            f"{path}: holds the values {', '.join(f'{value:g}' for value in found)}: neither a 0/255 mask nor labels "
            "alone; save what is object as 255 and all else as 0, or give a mask threshold"
        )


def refuse_doubtful(channel: npt.NDArray[np.generic], path: Path) -> None:
    """Refuse (H, W) values of a lossless mask that are a photograph, or of which several fill areas above the cut."""
    full = _full_range(channel.dtype, float(channel.max(initial=0)))
    levels = _distinct(channel)
    # those of areas are some of all levels
    cut = levels[0] <= full / 2 and bright_levels(levels, full)
    if said := photograph(channel) or (bright_levels(_inner_values(channel), full) if cut else ""):
        raise DataError(f"{path}: {said}")


def _distinct(values: npt.NDArray[np.generic]) -> npt.NDArray[np.float64]:
    """Return the values that occur, in order; bytes are counted, which is quicker."""
    if values.dtype == np.uint8:
        return np.flatnonzero(np.bincount(values.ravel(), minlength=256)).astype(np.float64)
    return np.unique(values).astype(np.float64)


def _inner_values(values: npt.NDArray[np.generic]) -> npt.NDArray[np.float64]:
    """Return the values of the pixels whose eight neighbours have the same value."""
    inner, flat = values[1:-1, 1:-1], np.bool_(True)
    rows, columns = values.shape
    for down in range(3):
        for right in range(3):
            flat = flat & (values[down : rows - 2 + down, right : columns - 2 + right] == inner)
    return _distinct(inner[flat])


def object_of(values: npt.NDArray[np.generic], path: Path) -> npt.NDArray[np.bool_]:
    """Return what is object in the (H, W) or (H, W, C) values of a lossless mask, by the rule of `read_mask`.

    Refused: NaN or infinity, labels that would be lost, and several values of which none is background.
    """
    colours = visible(values, path)
    if few_colours(colours):
        found = np.asarray(colours.any(axis=2))
    else:
        channel = one_channel(colours, path)
        refuse_doubtful(channel, path)
        refuse_lost_labels(channel, path)
        found = binarise(channel)
    if found.all() and _varies(colours):
        raise DataError(
            f"{path}: several values and every pixel is object; expected a background of 0 (black): save what is "
            "object as 255 and all else as 0"
        )
    return found


def visible(values: npt.NDArray[np.generic], path: Path) -> npt.NDArray[np.generic]:
    """Return (H, W, 1 or 3) values without alpha.

    Alpha alone where it is all that varies. Of a few 8-bit colours, what is transparent is black; that nothing else but
    black is opaque is refused.
    """
    channels = channels_last(values, path)
    if channels.shape[2] in (1, 3):
        return channels
    colours, alpha = channels[:, :, :-1], channels[:, :, -1]
    if not _varies(colours) and _varies(alpha):
        return alpha[:, :, None]
    if channels.dtype != np.uint8 or alpha.all() or not _varies(alpha):
        return colours
    opaque = binarise(alpha)
    seen = np.where(opaque[:, :, None], colours, np.uint8(0))
    if not _are_few(seen):
        return colours
    refuse_lost_labels(alpha, path)
    if not seen.any():
        raise DataError(
            f"{path}: only what is transparent is not black, so that colour and alpha disagree on what is object: save "
            "what is object as 255 and all else as 0, without alpha"
        )
    return seen


def few_colours(values: npt.NDArray[np.generic]) -> bool:
    """Whether the channels differ and the colours are so few that each must be a class."""
    if values.ndim != 3 or values.shape[2] != 3 or values.dtype != np.uint8:
        return False
    if np.array_equal(values[:, :, 0], values[:, :, 1]) and np.array_equal(values[:, :, 1], values[:, :, 2]):
        return False
    return _are_few(values)


def _are_few(colours: npt.NDArray[np.generic]) -> bool:
    codes = colours.astype(np.int64) @ (1 << 8 * np.arange(colours.shape[2]))
    return len(np.unique(codes)) <= _FEW


def _varies(values: npt.NDArray[np.generic]) -> bool:
    """Whether not all pixels are alike."""
    return bool(np.any(values != values[:1, :1]))


def one_channel(values: npt.NDArray[np.generic], path: Path) -> npt.NDArray[np.generic]:
    """Return the (H, W) values that a mask is in: the brightest channel, or alpha if that is all that varies."""
    channels = channels_last(values, path)
    if channels.dtype.kind == "f" and not np.isfinite(channels.astype(np.float64)).all():
        raise DataError(f"{path}: expected finite mask values, got NaN or infinity")
    if channels.shape[2] in (2, 4):
        colours, alpha = channels[:, :, :-1], channels[:, :, -1]
        if not _varies(colours) and _varies(alpha):
            return alpha
        channels = colours
    return np.asarray(channels.max(axis=2))


def channels_last(values: npt.NDArray[np.generic], path: Path) -> npt.NDArray[np.generic]:
    """Return (H, W, 1 to 4) values, or refuse another shape."""
    values = values[:, :, None] if values.ndim == 2 else values
    if values.ndim != 3 or values.shape[2] not in (1, 2, 3, 4) or 0 in values.shape:
        raise DataError(f"{path}: expected an image of shape (H, W) or (H, W, 1 to 4), got {values.shape}")
    return values


def _full_range(dtype: np.dtype[np.generic], peak: float) -> float:
    if dtype.kind == "f":
        return 1.0 if peak <= 1.0 else 255.0
    # wider integers than 16 bits hold labels or 8- and 16-bit values
    return 255.0 if peak <= 255 and dtype.itemsize != 2 else 65535.0


def band_radius(size: int, radius_px: float = DEFAULTS.band_radius_px, grid_px: int = DEFAULTS.band_grid_px) -> int:
    """Scale a radius from the grid that it is given on, `grid_px` a side, to one of `size`: rounded, at least 1."""
    return max(1, round(radius_px * size / grid_px))


def boundary_band(mask: Tensor, radius_px: int) -> Tensor:
    """Mark the pixels near the contour: B(y) = dilate(y) - erode(y) with a square element (Eq. 9).

    The mask is (B, 1, H, W), bool or 0 and 1; the band a float of the same shape. What lies outside of the image counts
    as unknown: a mask that touches the border has no contour there.
    """
    values = mask.float()
    return _dilate(values, radius_px) + _dilate(-values, radius_px)


def _dilate(values: Tensor, radius_px: int) -> Tensor:
    # a square is a row of columns; padding is minus infinity, so the border neither dilates nor erodes
    side = 2 * radius_px + 1
    rows = F.max_pool2d(values, (1, side), stride=1, padding=(0, radius_px))
    return F.max_pool2d(rows, (side, 1), stride=1, padding=(radius_px, 0))


Mask = npt.NDArray[np.bool_]


def resize_mask(mask: Mask, size: int | tuple[int, int]) -> Mask:
    """Bring a mask (H, W) to a grid, square or of (rows, columns): a pixel is inside if more than half of its area is.

    The covered area is exact (counted in whole units, so that ties do not depend on rounding), for reduction and
    enlargement alike; a mask of the grid's size stays as it is. Structures thinner than half a pixel are lost.
    """
    check_masks(mask, mask)
    rows, columns = (size, size) if isinstance(size, int) else size
    if min(rows, columns) < 1:
        raise MetricError(f"expected a grid of at least 1 pixel a side, got {size}")
    height, width = mask.shape
    if (height, width) == (rows, columns):
        return mask.copy()
    area = _overlaps(rows, height) @ mask.astype(np.int64) @ _overlaps(columns, width).T
    return np.asarray(2 * area > height * width)


@lru_cache(maxsize=64)
def _overlaps(cells: int, pixels: int) -> sparse.csr_array:
    """Return how much of each pixel lies in each cell, (cells, pixels) int64, in units of 1 / (cells * pixels)."""
    edges = np.union1d(np.arange(cells + 1) * pixels, np.arange(pixels + 1) * cells)
    starts = edges[:-1]
    return sparse.csr_array((np.diff(edges), (starts // pixels, starts // cells)), shape=(cells, pixels))


def check_masks(pred: Mask, true: Mask) -> None:
    for mask in (pred, true):
        if mask.dtype != np.bool_ or mask.ndim != 2:
            raise MetricError(f"expected a mask (H, W) of bool, got {mask.dtype} of shape {mask.shape}")
    if pred.shape != true.shape:
        raise MetricError(f"expected masks of one shape, got {pred.shape} and {true.shape}: use resize_mask")
