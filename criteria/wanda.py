"""Weight times activation, summed over structures."""

from dataclasses import dataclass

from torch import Tensor

from ..calibration.collector import Need
from ..models.groups import StructuredGroup
from ..scoring.criterion import Criterion
from ..scoring.registry import register_criterion
from ..scoring.units import parameters


@register_criterion(
    "wanda", source="Wanda-sp of An et al. 2024, arXiv 2312.11983, after Sun et al. 2023, arXiv 2306.11695"
)
@dataclass(frozen=True)
class Wanda(Criterion):
    """Absolute weight times the norm of what it reads, summed over the columns of a unit in `proj` or `lin2`.

        S(g) = sum_{c in g} |x_c|_2 sum_i |W_ic|

    x_c holds input channel c at all tokens of all calibration images, padding of windows left out; all samples of all
    data sets are one population.
    """

    needs = frozenset({Need.INPUT_SQUARES})
    cost = "calibration"

    def score(self, group: StructuredGroup) -> Tensor:
        norms = self.statistics.view().input_squares(group).sqrt()
        weight, _ = parameters(group.layer_out)
        return (weight.abs().sum(0) * norms)[group.out_cols].sum(1)
