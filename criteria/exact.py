"""Both interventions by running the network: slow, and the oracle of their Fisher forms."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from ..calibration.interventions import RiskData, exact_interventions
from ..defaults import DEFAULTS
from ..models.families import geometry_of
from ..models.groups import StructuredGroup
from ..scoring.aggregation import Alpha, Population, checked_alpha, weighed
from ..scoring.over_datasets import Aggregated
from ..scoring.registry import register_criterion


@register_criterion("exact", source="MedCore, arXiv 2605.13688, Eq. 5-7")
@dataclass(frozen=True)
class Exact(Aggregated):
    """Dual intervention without approximation: one run of the network over the data for each unit and term.

    S_k(g) = alpha_b I_zero(g) + (1 - alpha_b) I_reset(g) (Eq. 5-7) on each data set k, joined by Eq. 13. A unit whose
    removal lowers the loss has a negative score. Without a reference only the zero term is measured.

    Args, besides those of `Aggregated`:
        alpha: A number in [0, 1], one number a block, or `"balanced"`.
        batch_size: Images a forward pass.
        progress: Whether to show progress.
    """

    cost = "slow"
    reads = ("model", "data")

    alpha: Alpha = DEFAULTS.alpha
    batch_size: int = 8
    progress: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "alpha", checked_alpha(self.alpha))

    def score_all(self, groups: Sequence[StructuredGroup]) -> list[Tensor]:
        model, reference = self.model, self.inputs.reference
        frame = geometry_of(model).frame
        data = {name: RiskData.of(samples, frame) for name, samples in self.data.items()}
        run = partial(exact_interventions, model, groups, data, lambda_b=self.lambda_b)
        run = partial(run, batch_size=self.batch_size, progress=self.progress)
        zero = run()
        reset = None if reference is None else run(reference=reference)
        counts = {name: len(part.images) for name, part in data.items()}

        def of_population(population: Population) -> list[Tensor]:
            zeros = _mixed(zero, population)
            resets = [torch.zeros_like(z) for z in zeros] if reset is None else _mixed(reset, population)
            return weighed(self.alpha, groups, zeros, resets)

        return self.aggregator.score(groups, counts, of_population)


def _mixed(costs: Mapping[str, Sequence[Tensor]], population: Population) -> list[Tensor]:
    parts = [[share * values for values in costs[name]] for name, share in population.shares.items()]
    return [torch.stack(of_group).sum(0) for of_group in zip(*parts, strict=True)]
