"""Pruning by what least squares cannot give back."""

from ..calibration.collector import Need
from ..criteria.residual import Residual
from ..defaults import DEFAULTS
from ..scoring.recipes import Baseline, register_baseline


@register_baseline("residual", source="Hassibi and Stork 1993, Second order derivatives for network pruning (NIPS 5)")
def residual() -> Baseline:
    """Least-squares residual of each layer's output, units taken out in rounds; mean + deviation over data sets."""
    settings = {"tokens": "by_gradient", "beta": DEFAULTS.beta, "aggregation": "mean_std"}
    return Baseline(
        Residual,
        settings,
        quotas="sensitivity",
        tau=0.25,
        sensitivity=Need.DIRECTIONAL_ZERO,
        tunable=("rounds", "tokens", "quotas", "tau"),
    )
