"""MedCore: both interventions, weighed against each other in each block."""

from collections.abc import Mapping, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ..calibration.collector import Need
from ..calibration.views import View
from ..defaults import DEFAULTS
from ..models.groups import StructuredGroup
from ..scoring.aggregation import Aggregation, Alpha, alpha_of, checked_alpha, family_normalised
from ..scoring.over_datasets import OverDatasets
from ..scoring.registry import register_criterion
from .reset import RESET_NEEDS, ResetFisher, check_reset_fisher, reset_fisher_reader, reset_intervention
from .zero import zero_intervention

if TYPE_CHECKING:
    from ..calibration.statistics import Statistics


@register_criterion("medcore", source="MedCore, arXiv 2605.13688, Eq. 7, 10-13")
class Medcore(OverDatasets):
    """Dual intervention: what matters when zeroed, and what adaptation changed where it matters.

    S_k(g) = alpha_b I_zero(g) + (1 - alpha_b) I_reset(g)  (Eq. 7) on each data set k, by the Fisher (Eq. 10) and the
    Cross-Fisher (Eq. 11, 12); then the mean and deviation over data sets (Eq. 13). The gamma of Q = S / c^gamma (Eq. 8)
    orders groups of different cost, which only a plan compares: `mp.plan(..., ranking="global", gamma=1.0)`.

    Args:
        statistics: With `Need.FISHER` and, unless alpha is 1, `Need.REFERENCE_WEIGHTS` and (for the Cross-Fisher)
            `Need.REFERENCE_FISHER`.
        alpha: A number in [0, 1], one number a block, or `"balanced"`.
        beta: Weight of the deviation over data sets.
        lambda_b: Weight of the boundary band in the loss; 0 is the plain Dice + BCE loss.
        aggregation: `"mean_std"` over data sets, or `"pooled"`.
        weights: w_k of each data set; None for equal ones.
        reset_fisher: `"cross"` for F_X in the reset term, `"adapted"` for F_M alone.
        normalise_terms: Divide each term by its mean over its family before alpha weighs them.

    Raises:
        CriterionError: A setting out of range.
    """

    needs = RESET_NEEDS["cross"]

    def __init__(
        self,
        statistics: "Statistics",
        alpha: Alpha = DEFAULTS.alpha,
        beta: float = DEFAULTS.beta,
        lambda_b: float = DEFAULTS.lambda_b,
        aggregation: Aggregation = "mean_std",
        weights: Mapping[str, float] | None = None,
        reset_fisher: ResetFisher = "cross",
        normalise_terms: bool = False,
    ) -> None:
        check_reset_fisher(reset_fisher)
        self.alpha = checked_alpha(alpha)
        self.needs = self.needs_for(alpha=alpha, reset_fisher=reset_fisher)
        super().__init__(statistics, lambda_b, aggregation, beta, weights)
        self.reset_fisher = reset_fisher
        self.normalise_terms = normalise_terms

    @classmethod
    def needs_for(cls, **settings: Any) -> frozenset[Need]:
        # nothing of the reference where the reset term has no weight
        if checked_alpha(settings.get("alpha", DEFAULTS.alpha)) == 1:
            return frozenset({Need.FISHER})
        return RESET_NEEDS[settings.get("reset_fisher", "cross")]

    def _scores(self, groups: Sequence[StructuredGroup], view: View) -> list[Tensor]:
        zero, reset = map(list, zip(*(self._terms(group, view) for group in groups), strict=True))
        if self.normalise_terms:
            zero, reset = family_normalised(groups, zero), family_normalised(groups, reset)
        alphas = [alpha_of(self.alpha, group, z, r) for group, z, r in zip(groups, zero, reset, strict=True)]
        return [alpha * z + (1 - alpha) * r for alpha, z, r in zip(alphas, zero, reset, strict=True)]

    def _terms(self, group: StructuredGroup, view: View) -> tuple[Tensor, Tensor]:
        # both terms read F_M; the cache lives as long as one group is scored
        adapted = cache(view.fisher)
        zero = zero_intervention(group, adapted)
        if self.alpha == 1:
            return zero, torch.zeros_like(zero)
        of_reset = reset_fisher_reader(view, self.reset_fisher, adapted)
        return zero, reset_intervention(group, of_reset, view.reference_weights)
