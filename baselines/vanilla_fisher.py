"""Fisher pruning, with the loss that the model was trained on."""

from ..criteria.zero import Zero
from ..scoring.recipes import Baseline, register_baseline


@register_baseline("vanilla_fisher", source="Theis et al. 2018, arXiv 1801.05787")
def vanilla_fisher() -> Baseline:
    """I_zero alone, Dice + BCE loss, all samples pooled."""
    return Baseline(
        Zero, {"lambda_b": 0.0, "aggregation": "pooled"}, quotas="sensitivity", tau=0.25, tunable=("quotas",)
    )
