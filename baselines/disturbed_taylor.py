"""SlimSAM's importance."""

from ..criteria.disturbed_taylor import DisturbedTaylor
from ..scoring.recipes import Baseline, register_baseline


@register_baseline("disturbed_taylor", source="SlimSAM, Chen et al. 2024, arXiv 2312.05284")
def disturbed_taylor() -> Baseline:
    """Taylor importance of the embedding's distance to a noisy copy of itself, without labels."""
    return Baseline(DisturbedTaylor)
