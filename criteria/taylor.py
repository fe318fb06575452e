"""First-order Taylor importance, fed from calibration statistics: a yardstick from outside."""

from typing import TYPE_CHECKING

from torch import Tensor

from ..aggregation import populations
from ..calibration.collector import Need
from ..calibration.views import mean_gradient
from ..criterion import Criterion
from ..criterion_registry import register_criterion
from ..models.groups import StructuredGroup
from .lent_gradients import taylor_scores

if TYPE_CHECKING:
    from ..calibration.statistics import Statistics


@register_criterion("taylor", source="torch-pruning's GroupTaylorImportance; Molchanov et al. 2019, arXiv 1906.10771")
class Taylor(Criterion):
    """First-order Taylor importance as torch-pruning computes it, on the gradient of the mean calibration loss.

    See `taylor_scores` for the formula.

    Args:
        statistics: With `Need.MEAN_GRADIENT`; all samples of all data sets are one population.
        lambda_b: Weight of the boundary band in the loss; 0, the plain loss, is what an outside user would take.
    """

    needs = frozenset({Need.MEAN_GRADIENT})
    cost = "calibration"

    def __init__(self, statistics: "Statistics", lambda_b: float = 0.0) -> None:
        self.statistics = statistics
        self.lambda_b = lambda_b

    def score(self, group: StructuredGroup) -> Tensor:
        (pooled,) = populations(self.statistics.counts, "pooled")
        return taylor_scores(
            group, lambda layer, name: mean_gradient(self.statistics, pooled, layer, name, self.lambda_b)
        )
