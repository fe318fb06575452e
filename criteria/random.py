"""Random scores: the floor of the comparison."""

import zlib
from dataclasses import dataclass

import torch
import torch_pruning as tp
from torch import Tensor

from ..models.groups import StructuredGroup
from ..scoring.adapters import group_seed
from ..scoring.criterion import Criterion
from ..scoring.registry import register_criterion


@register_criterion("random", source="Li et al. 2022, arXiv 2205.05676")
@dataclass(frozen=True)
class Random(Criterion):
    """Uniform random scores in each block.

    S(g) ~ U(0, 1) (Li et al. 2022, arXiv 2205.05676). A seed, block and family determine the scores; the global
    generator is not read.
    """

    stochastic = True

    def score(self, group: StructuredGroup) -> Tensor:
        return _uniform(group.n_units, group_seed(self.inputs.seed, group))

    def score_channels(self, group: tp.Group) -> Tensor:
        # any channels will do for random scores; the layer's name tells one group from another
        return _uniform(
            len(group[0].idxs), self.inputs.seed * 1_000_003 + zlib.crc32(group[0].dep.target.name.encode())
        )


def _uniform(count: int, seed: int) -> Tensor:
    return torch.rand(count, generator=torch.Generator().manual_seed(seed % 2**63), dtype=torch.float64)
