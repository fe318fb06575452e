"""The learning rate of a recovery that names none: what the pocket pair takes is too much for larger models."""

from dataclasses import replace

from torch import nn

from ..models.families import family_of
from ..models.sam_shape import kind_of
from ..models.segment_anything import SegmentAnythingFamily, shape_of
from .settings import RecoverySettings

POCKET_RATE, USUAL_RATE = 1e-3, 1e-4
"""Settled on phantom validation images (docs/recovery_defaults.md), and MedSAM's own (Ma et al. 2024, Methods)."""


def rated(settings: RecoverySettings, model: nn.Module) -> RecoverySettings:
    """Return the settings with a learning rate: their own, or the one of models of this kind."""
    if settings.learning_rate is not None:
        return settings
    pocket = family_of(model).name == SegmentAnythingFamily.name and kind_of(shape_of(model)) == "pocket"
    return replace(settings, learning_rate=POCKET_RATE if pocket else USUAL_RATE)
