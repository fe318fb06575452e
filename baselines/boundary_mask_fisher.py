"""The mask search of the post-training framework, with the boundary in its loss."""

from ..criteria.directional import DirectionalZero
from ..scoring.recipes import Baseline, register_baseline


@register_baseline("boundary_mask_fisher", source="this project, after Kwon et al. 2022, arXiv 2204.09656")
def boundary_mask_fisher() -> Baseline:
    """`mask_fisher` with the boundary-aware loss: units of all blocks ranked together."""
    settings = {"lambda_b": 5.0, "aggregation": "mean_std", "beta": 1.0}  # tuned: docs/defaults.md
    return Baseline(DirectionalZero, settings, quotas="ranked", tunable=("lambda_b", "aggregation", "beta"))
