"""Boundary leverage: how far a compression step moves the contour for what it saves (METHOD section 3, Def. 3.2).

A step changes the logit map l into l + delta and saves Delta C percent of the parameters:

    displacement(u) = |delta(u)| / (||grad l(u)|| + eps)                          pixels, first order (Theorem 3.3)
    BL_q            = quantile_q over the boundary band of displacement(u) / Delta C
    RL_q            = quantile_q over the whole image of |delta(u)| / (median slope in the band) / Delta C

The gradient is that of the map before the step, eps a thousandth of the map's median slope in the band. Away from the
contour the slope vanishes, so RL_q does not divide pixel by pixel. Quantiles pool the pixels of all images.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from .._support.errors import MetricError
from ..data.masks import boundary_band
from .pooled import PooledValues

GRID_PX = 256
"""Side of the grid on which displacements are measured, in pixels."""
BAND_PX = (3, 7)
"""How far the boundary band reaches to either side of the contour, in pixels of that grid."""
EPSILON_SHARE = 1e-3
QUANTILE = 0.95
_FLAT = 1e-12  # logits per pixel: a map without any slope displaces far, but not by 0 / 0

Array: TypeAlias = npt.NDArray[np.float64]


AROUND: dict[str, Callable[[Tensor, Tensor, int], Tensor]] = {
    "truth": lambda truth, predicted, band_px: boundary_band(truth, band_px),
    "predicted": lambda truth, predicted, band_px: boundary_band(predicted, band_px),
    "either": lambda truth, predicted, band_px: boundary_band(truth, band_px).maximum(
        boundary_band(predicted, band_px)
    ),
}
"""Whose contour the band follows: the true mask's, that of the mask predicted before the step, or both."""


def slope(logits: Tensor) -> Tensor:
    """Length of the spatial gradient in logits per pixel, by central differences, one-sided at the image's border."""
    rows, columns = torch.gradient(logits, dim=(-2, -1))
    return torch.hypot(rows, columns)


@dataclass(frozen=True)
class Before:
    """Logit maps (B, 1, H, W) before a step, and what all steps from there share.

    The slope is in logits per pixel, the band bool; its median slope, (B,), is NaN where an image has none.
    """

    logits: Tensor
    slope: Tensor
    band: Tensor
    median_slope: Tensor

    @classmethod
    def of(cls, logits: Tensor, truth: Tensor, *, around: str = "truth", band_px: int = BAND_PX[0]) -> "Before":
        """Look at maps before a step, resized to the grid as logits, with the true masks there.

        The band follows the contour that `around`, a name in `AROUND`, says, `band_px` to either side, at least 1.
        """
        if around not in AROUND:
            raise MetricError(f"band around {around!r}: expected one of {', '.join(AROUND)}")
        if band_px < 1:
            raise MetricError(f"band of {band_px} px: expected at least 1 to either side")
        if logits.shape != truth.shape:
            raise MetricError(
                f"logits are {tuple(logits.shape)}, masks {tuple(truth.shape)}: expected one shape, (B, 1, H, W)"
            )
        steep = slope(logits)
        band = AROUND[around](truth, logits > 0, band_px) > 0
        medians = [
            s[b].median() if bool(b.any()) else s.new_tensor(torch.nan) for s, b in zip(steep, band, strict=True)
        ]
        return cls(logits, steep, band, torch.stack(medians))

    @property
    def epsilon(self) -> Tensor:
        """(B,) what is added to the slope, in logits per pixel."""
        return EPSILON_SHARE * self.median_slope

    def displacement(self, after: Tensor) -> Tensor:
        """How many pixels each pixel's level line moves to first order, |delta(u)| / (||grad l(u)|| + eps)."""
        return (after - self.logits).abs() / (self.slope + self.epsilon[:, None, None, None]).clamp(min=_FLAT)

    def in_band(self, after: Tensor) -> list[Tensor]:
        """Return each image's displacements in its band, (pixels,); empty where it has no band."""
        moved = self.displacement(after)
        return [values[band] for values, band in zip(moved, self.band, strict=True)]

    def in_image(self, after: Tensor) -> list[Tensor]:
        """Return |delta| over the median slope in the band for all pixels of each image; empty without a band."""
        changed = (after - self.logits).abs() / self.median_slope.clamp(min=_FLAT)[:, None, None, None]
        has_band = (~self.median_slope.isnan()).tolist()
        return [values.flatten() if has else values.new_empty(0) for values, has in zip(changed, has_band, strict=True)]

    def below_epsilon(self) -> Tensor:
        """(B,) number of band pixels whose slope is below eps, where the displacement is bounded by eps alone."""
        flat = (self.slope < self.epsilon[:, None, None, None]) & self.band
        return flat.flatten(1).sum(1)


class BoundaryLeverage:
    """Collects a step's displacements over images and gives its boundary leverage.

    Args:
        saved_percent: Delta C, percent of the parameters (or of another cost) that the step saves; above 0.

    Raises:
        MetricError: Nothing is saved: the leverage is undefined.
    """

    def __init__(self, saved_percent: float) -> None:
        if not saved_percent > 0:
            raise MetricError(f"a step that saves {saved_percent:g} % has no leverage: leave it out")
        self.saved_percent = saved_percent
        self.values = PooledValues()
        self.below_epsilon = 0

    def add(self, before: Before, after: Tensor) -> None:
        """Add a batch of images.

        Args:
            before: What was taken of the logits before the step.
            after: (B, 1, H, W) logits after it.
        """
        self.values.add(torch.cat(before.in_band(after)))
        self.below_epsilon += int(before.below_epsilon().sum())

    def quantile(self, q: float = QUANTILE) -> float:
        """BL_q, in pixels per percent saved."""
        return self.values.quantile(q) / self.saved_percent

    def mean(self) -> float:
        """Mean displacement over Delta C, in pixels per percent saved."""
        return self.values.mean() / self.saved_percent

    @property
    def share_below_epsilon(self) -> float:
        """Share of band pixels whose slope is below eps."""
        return self.below_epsilon / max(1, self.values.count)


def leverage_ratio(heads: Array, neurons: Array) -> Array:
    """BLR or RLR: median leverage of head steps over that of MLP steps, both (..., steps)."""
    return np.asarray(np.median(heads, axis=-1) / np.median(neurons, axis=-1))


def specificity(boundary_ratio: Array, region_ratio: Array) -> Array:
    """BSR = BLR / RLR: above 1 where heads weigh more at the contour than they do over the whole image."""
    return np.asarray(boundary_ratio / region_ratio)


def paired_win_rate(heads: Array, neurons: Array, pairs: Sequence[tuple[int, int]]) -> Array:
    """Share of the paired cells, from which both steps are valid, where the head step has the higher leverage.

    Leverage is (..., steps), pairs are places of a head and an MLP step; NaN without any pair.
    """
    if not pairs:
        return np.full(heads.shape[:-1], np.nan)
    first, second = (list(places) for places in zip(*pairs, strict=True))
    return np.asarray((heads[..., first] > neurons[..., second]).mean(axis=-1))


def damage_density(damage: Array, saved_percent: Array) -> Array:
    """Mean over steps of the damage per one percent saved.

    Damage, (..., steps), is the fall of Boundary F1, or the rise of HD95, from before to after each step.
    """
    return np.asarray((damage / saved_percent).mean(axis=-1))
