"""Directional pruning: the dual intervention by squared slopes of whole units."""

from ..baseline import Baseline, register_baseline
from ..criteria.directional import Directional
from ..defaults import DEFAULTS
from ..needs import Need


@register_baseline("directional", source="this project; mask form of Kwon et al. 2022, arXiv 2204.09656")
def directional() -> Baseline:
    """Removal cost by directional Fisher, boundary-aware loss, mean + deviation over data sets, sensitivity quotas."""
    settings = {"alpha": 1.0, "beta": DEFAULTS.beta, "lambda_b": DEFAULTS.lambda_b, "aggregation": "mean_std"}
    return Baseline(
        Directional,
        settings,
        quotas="sensitivity",
        tau=DEFAULTS.tau,
        sensitivity=Need.DIRECTIONAL_ZERO,
        tunable=("alpha", "beta", "lambda_b", "quotas", "tau"),
    )
