"""torch-pruning's own group Taylor importance, fed from calibration statistics: a yardstick from outside."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch_pruning as tp
from torch import Tensor

from ..adapters import ImportanceCriterion
from ..aggregation import Population, populations
from ..criterion import Criterion, Need
from ..criterion_registry import register_criterion
from ..elementwise import mean_gradient
from ..groups import StructuredGroup

if TYPE_CHECKING:
    from ..statistics import Statistics


@contextmanager
def gradients_lent(
    group: StructuredGroup, statistics: "Statistics", population: Population, lambda_b: float
) -> Iterator[None]:
    """Put the mean gradient of calibration into the layers' `.grad`; what was there comes back."""
    lent = [
        (parameter, parameter.grad, value.to(parameter))
        for name, layer in group.layers
        for parameter, value in zip(
            (layer.weight, layer.bias), mean_gradient(statistics, population, layer, name, lambda_b), strict=True
        )
        if parameter is not None and value is not None
    ]
    try:
        for parameter, _, gradient in lent:
            parameter.grad = gradient
        yield
    finally:
        for parameter, own, _ in lent:
            parameter.grad = own


@register_criterion("taylor", source="torch-pruning's GroupTaylorImportance; Molchanov et al. 2019, arXiv 1906.10771")
class Taylor(Criterion):
    """First-order Taylor importance as torch-pruning computes it, on the gradient of the mean calibration loss.

    S(c) = mean over coupled layers of sum_j |theta_j dL/dtheta_j| for each channel c, averaged to units.

    Args:
        statistics: With `Need.MEAN_GRADIENT`; all samples of all data sets are one population.
        lambda_b: Weight of the boundary band in the loss; 0, the plain loss, is what an outside user would take.
    """

    needs = frozenset({Need.MEAN_GRADIENT})
    cost = "calibration"

    def __init__(self, statistics: "Statistics", lambda_b: float = 0.0) -> None:
        self.statistics = statistics
        self.lambda_b = lambda_b
        self._importance = ImportanceCriterion(tp.importance.GroupTaylorImportance())

    def score(self, group: StructuredGroup) -> Tensor:
        (pooled,) = populations(self.statistics.counts, "pooled")
        with gradients_lent(group, self.statistics, pooled, self.lambda_b):
            return self._importance.score(group)
