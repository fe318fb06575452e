"""How a recovery is done: everything that decides its result besides models and images."""

import math
from dataclasses import dataclass, field, replace

from ._support.errors import MedcorePruneError
from .defaults import DEFAULTS
from .recovery_objective import RecoveryWeights
from .training import TrainSettings

_SAVE_EVERY = 25
_LEAST = {
    "steps": 1,
    "batch_size": 1,
    "warmup": 0,
    "weight_decay": 0,
    "lambda_b": 0,
    "validate_every": 0,
    "patience": 0,
}


@dataclass(frozen=True)
class RecoverySettings:
    """How to recover; chosen on phantom validation images (docs/recovery_defaults.md).

    Attributes:
        steps: Optimiser steps.
        batch_size: Images a step, drawn with replacement from all training images together and augmented.
        learning_rate: Peak of AdamW's learning rate; a half cosine to 0 follows the warm-up.
        warmup: Steps of linear warm-up; None for a tenth of all.
        weight_decay: Of AdamW, on matrices alone.
        clip_norm: Gradients are scaled down to this norm.
        weights: Of the terms of Eq. 14.
        lambda_b: Weight of the boundary band in L_bBCE.
        seed: Of batches and augmentation.
        validate_every: Steps between looks at the validation images; 0 for none, which keeps the last weights.
        patience: Looks in a row without a better Boundary F1 after which to stop; 0 for never. The best weights are
            kept anyway.
        mixed_precision: bfloat16 for forward passes where the processor has it in hardware.

    Raises:
        MedcorePruneError: A value out of range.
    """

    steps: int = 300
    batch_size: int = 16
    learning_rate: float = 1e-3
    warmup: int | None = None
    weight_decay: float = 0.01
    clip_norm: float = 1.0
    weights: RecoveryWeights = field(default_factory=RecoveryWeights)
    lambda_b: float = DEFAULTS.lambda_b
    seed: int = 0
    validate_every: int = 50
    patience: int = 0
    mixed_precision: bool = True

    def __post_init__(self) -> None:
        for name, low in _LEAST.items():
            value = getattr(self, name)
            if value is not None and not (math.isfinite(value) and value >= low):
                raise MedcorePruneError(f"recovery: {name} is {value}: expected at least {low}")
        for name in ("learning_rate", "clip_norm"):
            if not (math.isfinite(getattr(self, name)) and getattr(self, name) > 0):
                raise MedcorePruneError(f"recovery: {name} is {getattr(self, name)}: expected a number above 0")

    def shortened(self, fraction: float) -> "RecoverySettings":
        """Return the same with that fraction of the steps, at least one."""
        return replace(self, steps=max(1, round(self.steps * fraction)))

    def training(self) -> TrainSettings:
        """Return what the training loop reads."""
        return TrainSettings(
            steps=self.steps,
            learning_rate=self.learning_rate,
            warmup=max(1, self.steps // 10) if self.warmup is None else self.warmup,
            weight_decay=self.weight_decay,
            clip_norm=self.clip_norm,
            save_every=_SAVE_EVERY,
            validate_every=self.validate_every,
            mixed_precision=self.mixed_precision,
        )


DEFAULT_RECOVERY = RecoverySettings()
