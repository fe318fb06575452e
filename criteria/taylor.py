"""First-order Taylor importance, fed from calibration statistics: a yardstick from outside."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch_pruning as tp
from torch import Tensor

from ..calibration.collector import Need
from ..models.groups import StructuredGroup
from ..scoring.adapters import ImportanceCriterion
from ..scoring.criterion import Criterion
from ..scoring.registry import register_criterion
from ..scoring.units import LayerValues


def _over_mean(channels: Tensor) -> Tensor:
    """Divide channel scores by their mean, as torch-pruning's `"mean"` does; zeros stay zeros instead of 0 / 0."""
    mean = channels.mean()
    return channels if mean == 0 else channels / mean


@contextmanager
def gradients_lent(group: StructuredGroup, gradient_of: LayerValues) -> Iterator[None]:
    """Put gradients into the layers' `.grad`; what was there comes back."""
    lent = [
        (parameter, parameter.grad, value.to(parameter))
        for name, layer in group.layers
        for parameter, value in zip((layer.weight, layer.bias), gradient_of(layer, name), strict=True)
        if parameter is not None and value is not None
    ]
    try:
        for parameter, _, gradient in lent:
            parameter.grad = gradient
        yield
    finally:
        for parameter, own, _ in lent:
            parameter.grad = own


def taylor_scores(group: StructuredGroup, gradient_of: LayerValues) -> Tensor:
    """First-order Taylor importance as torch-pruning computes it (Molchanov et al. 2019, arXiv 1906.10771): (n_units,).

    S(c) = mean over coupled layers of sum_j |theta_j dL/dtheta_j| for each channel c, over its mean in the group,
    averaged to units; zeros where no channel of the group has any.
    """
    with gradients_lent(group, gradient_of):
        return ImportanceCriterion(tp.importance.GroupTaylorImportance(normalizer=_over_mean)).score(group)


@register_criterion("taylor", source="torch-pruning's GroupTaylorImportance; Molchanov et al. 2019, arXiv 1906.10771")
@dataclass(frozen=True, kw_only=True)
class Taylor(Criterion):
    """First-order Taylor importance as torch-pruning computes it, on the gradient of the mean calibration loss.

    See `taylor_scores` for the formula; all samples of all data sets are one population.

    Args:
        lambda_b: Weight of the boundary band in the loss; 0, the plain loss, is what an outside user would take.
    """

    needs = frozenset({Need.MEAN_GRADIENT})
    cost = "calibration"

    lambda_b: float = 0.0

    def score(self, group: StructuredGroup) -> Tensor:
        return taylor_scores(group, self.statistics.view(lambda_b=self.lambda_b).mean_gradient)
