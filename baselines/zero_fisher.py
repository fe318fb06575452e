"""Fisher pruning of heads, with the boundary-aware loss."""

from ..criteria.zero import Zero
from ..scoring.recipes import Baseline, register_baseline


@register_baseline("zero_fisher", source="Michel et al. 2019, arXiv 1905.10650")
def zero_fisher() -> Baseline:
    """I_zero alone, boundary-aware loss, all samples pooled."""
    settings = {"lambda_b": 1.0, "aggregation": "pooled"}  # tuned: docs/defaults.md
    return Baseline(Zero, settings, quotas="sensitivity", tau=0.5, tunable=("lambda_b", "quotas"))
