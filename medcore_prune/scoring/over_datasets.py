"""What criteria that score each data set by itself share: their settings, and the mean and deviation of Eq. 13."""

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor

from ..calibration.views import View
from ..defaults import DEFAULTS
from ..models.groups import StructuredGroup
from .aggregation import Aggregation, Aggregator, Population
from .criterion import Criterion


@dataclass(frozen=True, kw_only=True)
class Aggregated(Criterion):
    """Scores of each data set by itself, joined to one a unit.

    Args:
        lambda_b: Weight of the boundary band in the loss; 0 is the plain Dice + BCE loss.
        aggregation: `"mean_std"` over data sets (Eq. 13), or `"pooled"`.
        beta: Weight of the deviation over data sets.
        weights: w_k of each data set; None for equal ones.
    """

    lambda_b: float = DEFAULTS.lambda_b
    aggregation: Aggregation = "mean_std"
    beta: float = DEFAULTS.beta
    weights: Mapping[str, float] | None = None

    def __post_init__(self) -> None:
        Aggregator(self.aggregation, self.beta, self.weights)  # which checks them

    @property
    def aggregator(self) -> Aggregator:
        """Joins the scores of data sets."""
        return Aggregator(self.aggregation, self.beta, self.weights)


@dataclass(frozen=True)
class OverDatasets(Aggregated):
    """Scores from calibration statistics, data set by data set; settings as of `Aggregated`."""

    cost = "calibration"

    def score_all(self, groups: Sequence[StructuredGroup]) -> list[Tensor]:
        def of_population(population: Population) -> list[Tensor]:
            return self._scores(groups, self.statistics.view(population.shares, self.lambda_b))

        return self.aggregator.score(groups, self.statistics.counts, of_population)

    @abstractmethod
    def _scores(self, groups: Sequence[StructuredGroup], view: View) -> list[Tensor]:
        """Scores of every group on one data set, or on all of them pooled."""
