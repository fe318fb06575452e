"""Structured Wanda."""

from ..criteria.wanda import Wanda
from ..scoring.recipes import Baseline, register_baseline


@register_baseline("wanda", source="An et al. 2024, arXiv 2312.11983, after Sun et al. 2023, arXiv 2306.11695")
def wanda() -> Baseline:
    """Weights times the norm of what they read; forward passes alone."""
    return Baseline(Wanda)
