"""The zero intervention: what it costs to remove a unit, by the Fisher of the adapted model."""

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from ..calibration.collector import Need
from ..calibration.views import View
from ..models.groups import StructuredGroup
from ..scoring.over_datasets import OverDatasets
from ..scoring.registry import register_criterion
from ..scoring.units import LayerValues, combine, parameters, unit_sums


def zero_intervention(group: StructuredGroup, fisher_of: LayerValues) -> Tensor:
    """Second-order cost of setting each unit to zero (METHOD section 5): (n_units,), non-negative.

    I_zero(g) ~ 1/2 sum_{j in g} F_M,j theta_M,j^2
    """
    return 0.5 * unit_sums(
        group, lambda layer, name: combine(lambda f, w: f * w.square(), fisher_of(layer, name), parameters(layer))
    )


@register_criterion("zero", source="Michel et al. 2019, arXiv 1905.10650; Theis et al. 2018, arXiv 1801.05787")
@dataclass(frozen=True)
class Zero(OverDatasets):
    """Fisher cost of setting a unit to zero: I_zero of Eq. 5 with the Fisher of Eq. 10."""

    needs = frozenset({Need.FISHER})

    def _scores(self, groups: Sequence[StructuredGroup], view: View) -> list[Tensor]:
        return [zero_intervention(group, view.fisher) for group in groups]
