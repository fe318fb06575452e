"""MedCore, with the defaults of this package."""

from ..criteria.medcore import Medcore
from ..defaults import DEFAULTS
from ..scoring.recipes import Baseline, register_baseline


@register_baseline("medcore", source="MedCore, arXiv 2605.13688")
def medcore() -> Baseline:
    """I_zero and I_reset by Cross-Fisher, boundary-aware loss, mean + deviation over data sets, sensitivity quotas."""
    settings = {"alpha": DEFAULTS.alpha, "beta": DEFAULTS.beta, "lambda_b": DEFAULTS.lambda_b}
    return Baseline(
        Medcore,
        {**settings, "aggregation": "mean_std"},
        quotas="sensitivity",
        tau=DEFAULTS.tau,
        tunable=("alpha", "beta", "lambda_b", "quotas", "tau"),
    )
