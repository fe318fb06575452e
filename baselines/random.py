"""Random pruning."""

from ..baseline import Baseline, register_baseline
from ..criteria.random import Random


@register_baseline("random", source="Li et al. 2022, arXiv 2205.05676")
def random() -> Baseline:
    """Units drawn at random in each block, under uniform quotas."""
    return Baseline(Random)
