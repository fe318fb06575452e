"""Magnitude: what has small weights goes."""

import math

import torch_pruning as tp
from torch import Tensor

from ..criterion import Criterion
from ..criterion_registry import register_criterion
from ..defaults import DEFAULTS
from ..elementwise import combine, parameters, unit_sums
from ..errors import CriterionError
from ..groups import StructuredGroup


@register_criterion("magnitude", source="Han et al. 2015, arXiv 1506.02626")
class Magnitude(Criterion):
    """Norm of all parameters that go with a unit.

    S(g) = (sum_{j in g} |theta_j|^p)^(1/p) (Han et al. 2015, arXiv 1506.02626, for groups of weights).

    Args:
        p: Order of the norm, above 0.

    Raises:
        CriterionError: p out of range.
    """

    def __init__(self, p: float = DEFAULTS.magnitude_p) -> None:
        if not (math.isfinite(p) and p > 0):
            raise CriterionError(f"the order of the norm is {p:g}: expected a finite number above 0")
        self.p = p

    def score(self, group: StructuredGroup) -> Tensor:
        powers = unit_sums(group, lambda layer, _: combine(lambda w: w.abs() ** self.p, parameters(layer)))
        return powers ** (1 / self.p)

    def score_channels(self, group: tp.Group) -> Tensor | None:
        sums = tp.importance.GroupMagnitudeImportance(p=self.p, group_reduction="sum", normalizer=None, bias=True)
        powers = sums(group)
        return None if powers is None else powers ** (1 / self.p)
