"""Magnitude: what has small weights goes."""

import math
from dataclasses import dataclass

import torch_pruning as tp
from torch import Tensor

from .._support.errors import CriterionError
from ..defaults import DEFAULTS
from ..models.groups import StructuredGroup
from ..scoring.criterion import Criterion
from ..scoring.registry import register_criterion
from ..scoring.units import combine, parameters, unit_sums


@register_criterion("magnitude", source="Han et al. 2015, arXiv 1506.02626")
@dataclass(frozen=True)
class Magnitude(Criterion):
    """(sum of abs(w)^p)^(1/p) over all parameters that go with a unit; p is 0.5 unless set, the L2 norm is p 2.

    S(g) = (sum_{j in g} |theta_j|^p)^(1/p), rows, bias entries and columns together: Han et al. 2015 (arXiv
    1506.02626), who compare single weights by |theta_j|, for groups of weights. By default S(g) is the square of
    sum_j sqrt(|theta_j|), which is no norm: many small weights count for more than a few large ones of the same L2
    norm. p 0.5 had the highest Boundary F1 of six values on phantom validation images (docs/defaults.md).
    `Magnitude(p=2)` is the L2 norm, `Magnitude(p=1)` the sum of absolute weights.

    Args:
        p: The power, above 0.

    Raises:
        CriterionError: p out of range.
    """

    p: float = DEFAULTS.magnitude_p

    def __post_init__(self) -> None:
        if not (math.isfinite(self.p) and self.p > 0):
            raise CriterionError(f"the order of the norm is {self.p:g}: expected a finite number above 0")

    def score(self, group: StructuredGroup) -> Tensor:
        powers = unit_sums(group, lambda layer, _: combine(lambda w: w.abs() ** self.p, parameters(layer)))
        return powers ** (1 / self.p)

    def score_channels(self, group: tp.Group) -> Tensor | None:
        sums = tp.importance.GroupMagnitudeImportance(p=self.p, group_reduction="sum", normalizer=None, bias=True)
        powers = sums(group)
        return None if powers is None else powers ** (1 / self.p)
