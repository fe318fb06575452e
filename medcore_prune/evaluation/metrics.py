"""How well a mask's area and contour agree with the truth (METHOD section 10).

Boundary pixels are those of a mask that its erosion by a plus (4-connectivity) takes away. Outside of the image counts
as background, so a mask that touches the image border has boundary there, as in MONAI.

Empty masks: both empty is perfect (Dice = IoU = BF1 = 1, HD95 = 0); one empty is worst (Dice = IoU = BF1 = 0, HD95 =
the image diagonal). `MaskMetrics.empty` tells which, so that tables can count them.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from .._support.errors import MetricError
from ..data.masks import Mask, check_masks

Distances = npt.NDArray[np.float64]
Empty = Literal["none", "one", "both"]

HD_PERCENTILE = 95.0


TITLES = {"dice": "Dice", "iou": "IoU", "bf1": "BF1", "hd95_px": "HD95 px"}
"""The metrics that tables show, and how they call them."""
HIGHER_IS_BETTER = {"dice": True, "iou": True, "bf1": True, "hd95_px": False}
"""Of the same metrics."""
TEXTS = ("dataset", "name", "group", "empty")
"""Columns of a table of `score` that are no numbers."""


@dataclass(frozen=True)
class MaskMetrics:
    """Agreement of one predicted mask with the true one.

    Attributes:
        dice: `2 |P and T| / (|P| + |T|)`, 0 to 1.
        iou: `|P and T| / |P or T|`, 0 to 1.
        bf1: Boundary F1 at the chosen tolerance, 0 to 1.
        bf1_1px: At 1 px of the 256 grid.
        bf1_3px: At 3 px of the 256 grid.
        hd95_px: 95th percentile Hausdorff distance in pixels of the grid.
        hd95_percent: The same as percent of the grid's diagonal.
        empty: Whether none, one or both of the masks are empty.
    """

    dice: float
    iou: float
    bf1: float
    bf1_1px: float
    bf1_3px: float
    hd95_px: float
    hd95_percent: float
    empty: Empty


def evaluate_mask(pred: Mask, true: Mask, *, tolerance_px: float = 2.0, pixel_scale: float = 1.0) -> MaskMetrics:
    """Compute all metrics of one mask; the distance transforms are taken once.

    Args:
        pred: Predicted mask, (H, W) bool.
        true: True mask, (H, W) bool.
        tolerance_px: Tolerance of `bf1` in pixels of the 256 grid.
        pixel_scale: Pixels of this grid to one of the 256 grid; scales all three tolerances, not HD95.

    Returns:
        Dice, IoU, Boundary F1 at three tolerances and HD95; 1 and 0 px where both masks are empty, 0 and the image
        diagonal where one is.

    Raises:
        MetricError: Shapes or dtypes that do not fit, or a negative tolerance.
    """
    check_masks(pred, true)
    tolerances = [pixel_scale * tolerance for tolerance in (tolerance_px, 1.0, 3.0)]
    if min(tolerances) < 0:
        raise MetricError(f"expected tolerance_px >= 0 and pixel_scale >= 0, got {tolerance_px} and {pixel_scale}")
    diagonal = float(np.hypot(*true.shape))
    empty: Empty = ("none", "one", "both")[(not pred.any()) + (not true.any())]
    if empty != "none":
        good = float(empty == "both")
        far = diagonal * (1.0 - good)
        return MaskMetrics(good, good, good, good, good, far, 100.0 * (1.0 - good), empty)
    distances = boundary_distances(pred, true)
    bf1, bf1_1px, bf1_3px = (_f1_within(distances, tolerance) for tolerance in tolerances)
    hd95_px = _percentile_distance(distances)
    both, predicted, actual = (int(np.count_nonzero(mask)) for mask in (pred & true, pred, true))
    dice, iou = 2 * both / (predicted + actual), both / (predicted + actual - both)
    return MaskMetrics(dice, iou, bf1, bf1_1px, bf1_3px, hd95_px, 100.0 * hd95_px / diagonal, empty)


def hd95_mm(pred: Mask, true: Mask, spacing_mm: tuple[float, float]) -> float:
    """Compute the 95th percentile Hausdorff distance of `evaluate_mask` in millimetres.

    Args:
        pred: Predicted mask, (H, W) bool.
        true: True mask, (H, W) bool.
        spacing_mm: Millimetres from row to row and from column to column of this grid.

    Returns:
        0 where both masks are empty, the length of the image's diagonal where one is.

    Raises:
        MetricError: Shapes or dtypes that do not fit, or a spacing that is not above 0.
    """
    check_masks(pred, true)
    if not (min(spacing_mm) > 0 and np.isfinite(spacing_mm).all()):
        raise MetricError(f"expected a pixel spacing above 0 mm, got {spacing_mm}")
    if not (pred.any() and true.any()):
        return float(np.hypot(*np.multiply(true.shape, spacing_mm))) if pred.any() or true.any() else 0.0
    return _percentile_distance(boundary_distances(pred, true, spacing_mm))


def boundary(mask: Mask) -> Mask:
    """Return the boundary pixels of a mask: those with a 4-neighbour outside of it, or outside of the image."""
    padded = np.pad(mask, 1)
    inside = padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
    return np.asarray(mask & ~inside)


def boundary_distances(
    pred: Mask, true: Mask, spacing: tuple[float, float] = (1.0, 1.0)
) -> tuple[Distances, Distances]:
    """Distances from each boundary pixel of `pred` to the boundary of `true`, and back (Euclidean, exact).

    In pixels, or in units of `spacing`, from row to row and from column to column. All boundary pixels lie in the
    bounding box of the two masks' union, so the transforms are taken in there. An empty mask, which has no boundary, is
    refused.
    """
    check_masks(pred, true)
    if not (pred.any() and true.any()):
        raise MetricError("an empty mask has no boundary: expected two masks with pixels")
    union = pred | true
    rows, columns = np.flatnonzero(union.any(axis=1)), np.flatnonzero(union.any(axis=0))
    window = slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)
    edges = boundary(pred[window]), boundary(true[window])
    from_pred, from_true = (ndimage.distance_transform_edt(~edge, sampling=spacing) for edge in edges)
    return np.asarray(from_true[edges[0]]), np.asarray(from_pred[edges[1]])


def _f1_within(distances: tuple[Distances, Distances], tolerance: float) -> float:
    precision, recall = (float(np.count_nonzero(d <= tolerance)) / len(d) for d in distances)
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def _percentile_distance(distances: tuple[Distances, Distances]) -> float:
    return max(float(np.percentile(d, HD_PERCENTILE)) for d in distances)
