"""MedCore with the plainest settings, whatever tuning found."""

from ..criteria.medcore import Medcore
from ..scoring.recipes import Baseline, register_baseline


@register_baseline("medcore_untuned", source="MedCore, arXiv 2605.13688")
def medcore_untuned() -> Baseline:
    """MedCore with alpha 0.5, beta 1, tau 0 (which makes the quotas uniform) and lambda_B 5, never tuned."""
    settings = {"alpha": 0.5, "beta": 1.0, "lambda_b": 5.0, "aggregation": "mean_std"}
    return Baseline(Medcore, settings, quotas="sensitivity", tau=0.0)
