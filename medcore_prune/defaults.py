"""The open settings of the method, in one place (METHOD section 9)."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Defaults:
    """Settings that the paper leaves open, settled on phantom validation images (docs/defaults.md) and frozen.

    Attributes:
        lambda_b: Weight of the boundary band in the loss, lambda_B of Eq. 9.
        alpha: Share of the zero intervention in Eq. 7; `"balanced"` lets both terms weigh the same on average.
        beta: Weight of the deviation over data sets in Eq. 13.
        tau: How strongly quotas fall with the block sensitivity: weight s_b^-tau.
        band_radius_px: Half the width of the boundary band, in pixels of the `band_grid_px` grid.
        band_grid_px: Side of the grid that `band_radius_px` refers to.
        magnitude_p: Power p of the magnitude criterion, (sum of abs(w)^p)^(1/p); 2 would be the L2 norm.
    """

    lambda_b: float = 5.0
    alpha: float | Literal["balanced"] = "balanced"
    beta: float = 1.0
    tau: float = 0.25
    band_radius_px: float = 3.0
    band_grid_px: int = 256
    magnitude_p: float = 0.5


DEFAULTS = Defaults()
