"""Magnitude that can be compared between layers."""

from dataclasses import dataclass

import torch
from torch import Tensor

from ..models.groups import StructuredGroup
from ..scoring.criterion import Criterion
from ..scoring.registry import register_criterion
from ..scoring.units import combine, parameters, unit_sums


@register_criterion("lamp", source="Lee et al. 2021, arXiv 2010.07611")
@dataclass(frozen=True)
class Lamp(Criterion):
    """Squared norm of a unit over that of all units of its group that are no smaller.

        S(g) = |theta_g|^2 / sum_{|theta_h| >= |theta_g|} |theta_h|^2

    Within a group its order is that of `magnitude` with p = 2; between blocks it says where units go under quotas by
    `ranked` scores. A group of zeros scores zero.
    """

    def score(self, group: StructuredGroup) -> Tensor:
        squares = unit_sums(group, lambda layer, _: combine(torch.square, parameters(layer)))
        ascending, order = squares.sort()
        # of equal norms each counts all
        first = torch.searchsorted(ascending, ascending)
        no_smaller = ascending.flip(0).cumsum(0).flip(0)[first]
        scores = torch.empty_like(squares)
        scores[order] = ascending / no_smaller.clamp(min=torch.finfo(squares.dtype).tiny)
        return scores
