"""MedCore: both interventions, weighed against each other in each block."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor

from .._support.errors import CriterionError, require_known
from ..calibration.collector import Need
from ..calibration.views import View
from ..defaults import DEFAULTS
from ..models.groups import StructuredGroup
from ..scoring.aggregation import Alpha, checked_alpha, family_normalised, weighed
from ..scoring.over_datasets import OverDatasets
from ..scoring.registry import register_criterion
from .reset import RESET_NEEDS, ResetFisher, reset_fisher_reader, reset_intervention
from .zero import zero_intervention


@register_criterion("medcore", source="MedCore, arXiv 2605.13688, Eq. 7, 10-13")
@dataclass(frozen=True)
class Medcore(OverDatasets):
    """Dual intervention: what matters when zeroed, and what adaptation changed where it matters.

    S_k(g) = alpha_b I_zero(g) + (1 - alpha_b) I_reset(g)  (Eq. 7) on each data set k, by the Fisher (Eq. 10) and the
    Cross-Fisher (Eq. 11, 12); then the mean and deviation over data sets (Eq. 13). The gamma of Q = S / c^gamma (Eq. 8)
    orders groups of different cost, which only a plan compares: `mp.plan(..., ranking="global", gamma=1.0)`.

    Args, besides those of `Aggregated`:
        alpha: A number in [0, 1], one number a block, or `"balanced"`; nothing of the reference is read where it is 1.
        reset_fisher: `"cross"` for F_X in the reset term, `"adapted"` for F_M alone.
        normalise_terms: Divide each term by its mean over its family before alpha weighs them.
    """

    alpha: Alpha = DEFAULTS.alpha
    reset_fisher: ResetFisher = "cross"
    normalise_terms: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        require_known("reset_fisher", self.reset_fisher, RESET_NEEDS, CriterionError)
        object.__setattr__(self, "alpha", checked_alpha(self.alpha))

    @property
    def needs(self) -> frozenset[Need]:
        # nothing of the reference where the reset term has no weight
        return frozenset({Need.FISHER}) if self.alpha == 1 else RESET_NEEDS[self.reset_fisher]

    def _scores(self, groups: Sequence[StructuredGroup], view: View) -> list[Tensor]:
        zero, reset = map(list, zip(*(self._terms(group, view) for group in groups), strict=True))
        if self.normalise_terms:
            zero, reset = family_normalised(groups, zero), family_normalised(groups, reset)
        return weighed(self.alpha, groups, zero, reset)

    def _terms(self, group: StructuredGroup, view: View) -> tuple[Tensor, Tensor]:
        # both terms read F_M; the cache lives as long as one group is scored
        adapted = cache(view.fisher)
        zero = zero_intervention(group, adapted)
        if self.alpha == 1:
            return zero, torch.zeros_like(zero)
        of_reset = reset_fisher_reader(view, self.reset_fisher, adapted)
        return zero, reset_intervention(group, of_reset, view.reference_weights)
