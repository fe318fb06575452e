"""How far a step moves an image's contour in its band (METHOD section 3), a pixel at a time in float64."""

import math

import numpy as np
import numpy.typing as npt

Map = npt.NDArray[np.float64]


def slowly_displaced(before: Map, after: Map, truth: npt.NDArray[np.bool_], band_px: int) -> list[float]:
    """Displacements in the band of one image, from the definitions, a pixel at a time."""
    height, width = before.shape

    def slope(r: int, c: int) -> float:
        up, down = max(r - 1, 0), min(r + 1, height - 1)
        left, right = max(c - 1, 0), min(c + 1, width - 1)
        dr = (before[down, c] - before[up, c]) / (down - up)
        dc = (before[r, right] - before[r, left]) / (right - left)
        return math.hypot(dr, dc)

    def in_band(r: int, c: int) -> bool:
        around = truth[max(r - band_px, 0) : r + band_px + 1, max(c - band_px, 0) : c + band_px + 1]
        return bool(around.any() and not around.all())

    band = [(r, c) for r in range(height) for c in range(width) if in_band(r, c)]
    slopes = sorted(slope(r, c) for r, c in band)
    eps = 1e-3 * slopes[(len(slopes) - 1) // 2]
    return [abs(after[r, c] - before[r, c]) / (slope(r, c) + eps) for r, c in band]
