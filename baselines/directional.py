"""Directional pruning: the dual intervention by squared slopes of whole units."""

from ..calibration.collector import Need
from ..criteria.directional import Directional
from ..defaults import DEFAULTS
from ..scoring.recipes import Baseline, register_baseline


@register_baseline("directional", source="this project; mask form of Kwon et al. 2022, arXiv 2204.09656")
def directional() -> Baseline:
    """I_zero and I_reset by squared slopes of whole units, boundary-aware loss, mean + deviation, uneven quotas."""
    settings = {"alpha": 0.9, "beta": DEFAULTS.beta, "lambda_b": DEFAULTS.lambda_b}  # tuned: docs/defaults.md
    return Baseline(
        Directional,
        {**settings, "aggregation": "mean_std"},
        quotas="sensitivity",
        tau=0.25,
        sensitivity=Need.DIRECTIONAL_ZERO,
        tunable=("alpha", "beta", "lambda_b", "quotas", "tau"),
    )
