"""The reset intervention: what it costs to give a unit the reference's weights back, by the Cross-Fisher."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from torch import Tensor, nn

from .._support.errors import CriterionError, require_known
from ..calibration.collector import Need
from ..calibration.views import Pair, View
from ..models.groups import StructuredGroup
from ..scoring.over_datasets import OverDatasets
from ..scoring.registry import register_criterion
from ..scoring.units import LayerValues, combine, parameters, unit_sums

ResetFisher = Literal["cross", "adapted"]
RESET_NEEDS = {
    "cross": frozenset({Need.FISHER, Need.REFERENCE_FISHER, Need.REFERENCE_WEIGHTS}),
    "adapted": frozenset({Need.FISHER, Need.REFERENCE_WEIGHTS}),
}


def cross_fisher(adapted: Pair, reference: Pair) -> Pair:
    """Geometric mean of the two models' Fisher (Eq. 11): F_X = sqrt(F_M) * sqrt(F_S).

    The roots come before the product, which would underflow in single precision.
    """
    return combine(lambda m, s: m.sqrt() * s.sqrt(), adapted, reference)


def reset_intervention(group: StructuredGroup, fisher_of: LayerValues, reference_of: LayerValues) -> Tensor:
    """Second-order cost of setting each unit to the reference's weights (Eq. 12): (n_units,), non-negative.

        I_reset(g) ~ 1/2 sum_{j in g} F_X,j (theta_M,j - theta_S,j)^2

    `fisher_of` gives F_X (or F_M) of a layer and its name, `reference_of` theta_S.
    """

    def costs(layer: nn.Linear, name: str) -> Pair:
        pairs = fisher_of(layer, name), parameters(layer), reference_of(layer, name)
        return combine(lambda f, adapted, reference: f * (adapted - reference).square(), *pairs)

    return 0.5 * unit_sums(group, costs)


def reset_fisher_reader(view: View, reset_fisher: ResetFisher, adapted: LayerValues) -> LayerValues:
    """Return what reads the reset term's Fisher: F_X for `"cross"`, F_M itself for `"adapted"`."""
    if reset_fisher == "adapted":
        return adapted
    return lambda layer, name: cross_fisher(adapted(layer, name), view.fisher(layer, name, "reference"))


@register_criterion("reset", source="MedCore, arXiv 2605.13688, Eq. 11-12")
@dataclass(frozen=True)
class Reset(OverDatasets):
    """Cross-Fisher cost of setting a unit back to the reference: I_reset of Eq. 6 by Eq. 11 and 12.

    Args, besides those of `Aggregated`:
        reset_fisher: `"cross"` for F_X, `"adapted"` for F_M alone.
    """

    reset_fisher: ResetFisher = "cross"

    def __post_init__(self) -> None:
        super().__post_init__()
        require_known("reset_fisher", self.reset_fisher, RESET_NEEDS, CriterionError)

    @property
    def needs(self) -> frozenset[Need]:
        return RESET_NEEDS[self.reset_fisher]

    def _scores(self, groups: Sequence[StructuredGroup], view: View) -> list[Tensor]:
        of_reset = reset_fisher_reader(view, self.reset_fisher, view.fisher)
        return [reset_intervention(group, of_reset, view.reference_weights) for group in groups]
