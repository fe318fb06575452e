"""Random pruning."""

from ..criteria.random import Random
from ..scoring.recipes import Baseline, register_baseline


@register_baseline("random", source="Li et al. 2022, arXiv 2205.05676")
def random() -> Baseline:
    """Units drawn at random in each block, under uniform quotas."""
    return Baseline(Random)
