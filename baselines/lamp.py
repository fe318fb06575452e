"""Layer-adaptive magnitude pruning."""

from ..criteria.lamp import Lamp
from ..scoring.recipes import Baseline, register_baseline


@register_baseline("lamp", source="Lee et al. 2021, arXiv 2010.07611")
def lamp() -> Baseline:
    """Magnitude relative to the larger units of the group, which also says how much each block gives."""
    return Baseline(Lamp, quotas="ranked")
