"""Magnitude pruning."""

from ..baseline import Baseline, register_baseline
from ..criteria.magnitude import Magnitude
from ..defaults import DEFAULTS


@register_baseline("magnitude", source="Han et al. 2015, arXiv 1506.02626")
def magnitude() -> Baseline:
    """Norm of each unit's parameters."""
    return Baseline(Magnitude, {"p": DEFAULTS.magnitude_p}, tunable=("p",))
