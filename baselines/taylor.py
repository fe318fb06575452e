"""torch-pruning's group Taylor importance."""

from ..criteria.taylor import Taylor
from ..scoring.recipes import Baseline, register_baseline


@register_baseline("taylor", source="torch-pruning's GroupTaylorImportance; Molchanov et al. 2019, arXiv 1906.10771")
def taylor() -> Baseline:
    """First-order Taylor importance as torch-pruning computes it; Dice + BCE loss, all samples pooled."""
    return Baseline(Taylor, {"lambda_b": 0.0}, tunable=("lambda_b",))
