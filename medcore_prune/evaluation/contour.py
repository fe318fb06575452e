"""How far a contour moved: as Theorem 3.3 predicts it, and as it is measured along the normal (METHOD section 3).

    d(u) = -delta(u) / ||grad l(u)||        first order, positive along grad l, which points into the mask

The measured displacement knows nothing of that formula: from each point of the contour before the step, the nearest
zero of the map after it is searched along the normal.
"""

import numpy as np
import numpy.typing as npt
from scipy import ndimage
from skimage import measure

from .._support.errors import MetricError

REACH_PX = 20.0
_STEP_PX = 0.25

Array = npt.NDArray[np.float64]


def contour_points(logits: Array, most: int | None = None) -> Array:
    """Points of the zero level line of a map (H, W), between pixels, in order along each line; `most` of them, evenly.

    They are (n, 2) rows and columns in pixels; n = 0 where the map does not change its sign.
    """
    lines = measure.find_contours(np.asarray(logits, dtype=np.float64), 0.0)
    points = np.concatenate([np.asarray(line) for line in lines]) if lines else np.zeros((0, 2))
    if most is None or len(points) <= most:
        return points
    return np.asarray(points[np.linspace(0, len(points) - 1, most).round().astype(int)])


def predicted_displacement(points: Array, before: Array, after: Array) -> Array:
    """Displacement of the contour by Theorem 3.3, d = -delta / ||grad l||, at points on that of `before`.

    It is (n,) signed pixels, positive into the mask; infinite where the map before is flat.
    """
    _check(before, after)
    rows, columns = _gradient_at(points, before)
    length = np.hypot(rows, columns)
    delta = _at(after - before, points[:, 0], points[:, 1])
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(np.where(delta == 0, 0.0, -delta / length))


def measured_displacement(points: Array, before: Array, after: Array, *, reach_px: float = REACH_PX) -> Array:
    """Displacement of the contour along the normal: distance to the nearest zero of `after` that is crossed upwards.

    `before` gives the normals alone; the search reaches `reach_px` to either side. It is (n,) signed pixels, positive
    into the mask; NaN where no contour of the same orientation is in reach.
    """
    _check(before, after)
    rows, columns = _gradient_at(points, before)
    length = np.maximum(np.hypot(rows, columns), 1e-30)
    count = 2 * int(np.ceil(reach_px / _STEP_PX)) + 1
    along = np.linspace(-reach_px, reach_px, count)
    values = _at(
        after,
        points[:, 0, None] + (rows / length)[:, None] * along,
        points[:, 1, None] + (columns / length)[:, None] * along,
    )
    low, high = values[:, :-1], values[:, 1:]
    crossed = (low < 0) & (high >= 0)  # False where either end is outside of the image
    with np.errstate(divide="ignore", invalid="ignore"):
        zero = along[:-1] + (along[1] - along[0]) * np.where(crossed, low / (low - high), 0.0)
    distance = np.where(crossed, np.abs(zero), np.inf)
    nearest = distance.argmin(axis=1)[:, None]
    found = np.take_along_axis(zero, nearest, axis=1)[:, 0]
    return np.asarray(np.where(np.take_along_axis(crossed, nearest, axis=1)[:, 0], found, np.nan))


def _gradient_at(points: Array, logits: Array) -> tuple[Array, Array]:
    rows, columns = (np.asarray(part) for part in np.gradient(np.asarray(logits, dtype=np.float64)))
    return _at(rows, points[:, 0], points[:, 1]), _at(columns, points[:, 0], points[:, 1])


def _at(values: Array, rows: Array, columns: Array) -> Array:
    """Read a map between pixels, bilinearly; NaN outside of it."""
    values = np.asarray(values, dtype=np.float64)
    return np.asarray(ndimage.map_coordinates(values, [rows, columns], order=1, mode="constant", cval=np.nan))


def _check(before: Array, after: Array) -> None:
    if before.ndim != 2 or before.shape != after.shape:
        raise MetricError(f"expected two maps of one shape (H, W), got {before.shape} and {after.shape}")
