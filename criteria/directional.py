"""Directional Fisher: what the move of a whole unit costs, cross terms between its parameters included."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from ..calibration.collector import Need
from ..calibration.collectors.directional import Direction
from ..calibration.views import View
from ..defaults import DEFAULTS
from ..models.groups import StructuredGroup
from ..scoring.aggregation import Alpha, checked_alpha, weighed
from ..scoring.over_datasets import OverDatasets
from ..scoring.registry import register_criterion


def directional_cost(view: View, group: StructuredGroup, direction: Direction) -> Tensor:
    """Second-order cost of moving each unit along its direction (METHOD section 12); (n_units,) float64, non-negative.

        I(u) ~ 1/2 E[d(u)^2],   d(u) = sum_{j in u} v_j dL/dtheta_j

    v is theta_j on the unit's columns for `zero`, and theta_M,j - theta_S,j on all of its parameters for `reset`; see
    `medcore_prune.calibration.collectors.directional`.
    """
    return 0.5 * view.directional(group, direction)


@dataclass(frozen=True)
class _OneDirection(OverDatasets):
    """What both directions share; settings of `Aggregated`."""

    direction: ClassVar[Direction]

    def _scores(self, groups: Sequence[StructuredGroup], view: View) -> list[Tensor]:
        return [directional_cost(view, group, self.direction) for group in groups]


@register_criterion("directional_zero", source="Kwon et al. 2022, arXiv 2204.09656, with the boundary-aware loss")
@dataclass(frozen=True)
class DirectionalZero(_OneDirection):
    """Directional Fisher cost of removing a unit: half the mean squared slope of a mask on its output."""

    needs = frozenset({Need.DIRECTIONAL_ZERO})
    direction = "zero"


@register_criterion("directional_reset", source="this project, after MedCore, arXiv 2605.13688, Eq. 6")
@dataclass(frozen=True)
class DirectionalReset(_OneDirection):
    """Directional Fisher cost of giving a unit the reference's weights back, by the adapted model's gradients."""

    needs = frozenset({Need.DIRECTIONAL_RESET})
    direction = "reset"


@register_criterion("directional", source="this project; mask form of Kwon et al. 2022, arXiv 2204.09656")
@dataclass(frozen=True)
class Directional(OverDatasets):
    """Dual intervention by the directional Fisher, cross terms included: kilobytes of statistics, not gigabytes.

    S_k(g) = alpha_b I_zero(g) + (1 - alpha_b) I_reset(g)  (Eq. 7) on each data set k, both terms from squared
    slopes of single samples along the unit's own direction; then mean and deviation over data sets (Eq. 13).

    Args, besides those of `Aggregated`:
        alpha: A number in [0, 1], one number a block, or `"balanced"`; nothing of the reference is read where it is 1.
    """

    alpha: Alpha = DEFAULTS.alpha

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "alpha", checked_alpha(self.alpha))

    @property
    def needs(self) -> frozenset[Need]:
        zero = frozenset({Need.DIRECTIONAL_ZERO})
        # nothing of the reference where the reset term has no weight
        return zero if self.alpha == 1 else zero | {Need.DIRECTIONAL_RESET}

    def _scores(self, groups: Sequence[StructuredGroup], view: View) -> list[Tensor]:
        zero = [directional_cost(view, group, "zero") for group in groups]
        if self.alpha == 1:
            return zero
        return weighed(self.alpha, groups, zero, [directional_cost(view, group, "reset") for group in groups])
