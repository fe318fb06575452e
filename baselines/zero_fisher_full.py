"""MedCore without its reset term, and with everything else."""

import dataclasses

from ..scoring.recipes import Baseline, register_baseline
from .medcore import medcore


@register_baseline("zero_fisher_full", source="MedCore, arXiv 2605.13688, without the reset term")
def zero_fisher_full() -> Baseline:
    """MedCore with alpha 1: differs from `medcore` in the reset term alone."""
    full = medcore()
    tunable = tuple(name for name in full.tunable if name != "alpha")
    return dataclasses.replace(full.with_settings(alpha=1.0), tunable=tunable)
