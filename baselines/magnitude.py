"""Magnitude pruning."""

from ..criteria.magnitude import Magnitude
from ..defaults import DEFAULTS
from ..scoring.recipes import Baseline, register_baseline


@register_baseline("magnitude", source="Han et al. 2015, arXiv 1506.02626")
def magnitude() -> Baseline:
    """(sum of abs(w)^p)^(1/p) over each unit's parameters with p 0.5, as tuned on phantoms; the L2 norm is p 2."""
    return Baseline(Magnitude, {"p": DEFAULTS.magnitude_p}, tunable=("p",))
