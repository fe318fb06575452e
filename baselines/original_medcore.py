"""The earlier version of MedCore."""

from ..criteria.medcore import Medcore
from ..scoring.recipes import Baseline, register_baseline


@register_baseline("original_medcore", source="earlier version in MedCore, arXiv 2605.13688, Appendix E")
def original_medcore() -> Baseline:
    """I_zero and I_reset with the adapted model's Fisher in both, normalised and averaged; Dice + BCE loss, pooled."""
    settings = {
        "alpha": 0.5,
        "normalise_terms": True,
        "reset_fisher": "adapted",
        "lambda_b": 0.0,
        "aggregation": "pooled",
    }
    return Baseline(Medcore, settings, quotas="sensitivity", tau=0.25, tunable=("quotas",))
