"""The post-training framework's mask search."""

from ..criteria.directional import DirectionalZero
from ..scoring.recipes import Baseline, register_baseline


@register_baseline("mask_fisher", source="Kwon et al. 2022, arXiv 2204.09656")
def mask_fisher() -> Baseline:
    """Squared gradient of a mask on each unit, plain loss, samples pooled; units of all blocks ranked together."""
    return Baseline(DirectionalZero, {"lambda_b": 0.0, "aggregation": "pooled"}, quotas="ranked")
