"""How a training goes: settings and their defaults, read by the command line too, which does not wait for torch."""

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from .._support.errors import MedcorePruneError, UnreadableError, require_known
from ..defaults import DEFAULTS


def deciding(values: Mapping[str, Any]) -> dict[str, Any]:
    """What decides a result among settings by name: `accumulate` and `average` where they change it, and all others."""
    plain = {"accumulate": 1, "average": False}
    return {name: value for name, value in values.items() if name not in plain or value != plain[name]}


def _check_slices(what: str, accumulate: int, batch_size: int) -> None:
    if accumulate < 1 or batch_size % accumulate:
        raise UnreadableError(
            f"{what}: accumulate is {accumulate}: expected a divisor of the batch size, which is {batch_size}"
        )


@dataclass(frozen=True)
class TrainSettings:
    """What determines a training besides its data; fields as of `RecoverySettings`, and how often to save.

    `average` is whether the weights are averaged afterwards: looks then choose none, and the last are kept.
    """

    steps: int
    learning_rate: float
    warmup: int = 100
    weight_decay: float = 0.01
    clip_norm: float = 1.0
    save_every: int = 100
    validate_every: int = 0
    precision: str | None = None
    accumulate: int = 1
    average: bool = False

    def __post_init__(self) -> None:
        if not (math.isfinite(self.learning_rate) and self.learning_rate > 0):
            raise MedcorePruneError(f"training: learning_rate is {self.learning_rate}: expected a number above 0")


AUGMENTATION_NAMES = ("full", "flips")
"""How training images are changed: flips, rotation, zoom, shift and colour, or flips alone."""


@dataclass(frozen=True)
class AdaptSettings:
    """How to adapt.

    Attributes:
        steps: Optimiser steps.
        batch_size: Images a step, drawn through their objects, of which each is as likely as another.
        prompts: None trains on up to 8 different objects of each drawn image behind one pass of the encoder
            (`training.pool.OBJECTS_AN_IMAGE`). A number draws images that are equally likely, each with so many boxes,
            drawn with replacement from its objects, and looks at the first object of each validation image alone.
        learning_rate: Peak learning rate.
        seed: Of batches and augmentation.
        validate_every: Steps between looks at the validation images.
        precision: As of `RecoverySettings`.
        accumulate: As of `RecoverySettings`.
        augmentation: One of `AUGMENTATION_NAMES`; boxes move outward a little in both.
        average: Whether the last weights are averaged with those of the start, in the share that has the best Boundary
            F1 on the validation images (`training.average`).

    Raises:
        MedcorePruneError: Another augmentation, or a number of slices that does not divide the batch.
    """

    steps: int = 1500
    batch_size: int = 16
    prompts: int | None = None
    learning_rate: float = 3e-4
    seed: int = 0
    validate_every: int = 250
    precision: str | None = None
    # at 1 it changes no bit, and so no identity
    accumulate: int = field(default=1, repr=False)
    augmentation: str = "full"
    average: bool = False

    def __post_init__(self) -> None:
        require_known("augmentation", self.augmentation, AUGMENTATION_NAMES, MedcorePruneError)
        _check_slices("adaptation", self.accumulate, self.batch_size)


@dataclass(frozen=True)
class RecoveryWeights:
    """Weights of the terms of Eq. 14; a weight of 0 leaves a term out, its computation too.

    The defaults were chosen on phantom validation images (docs/recovery_defaults.md).

    Attributes:
        dice: Of L_Dice.
        boundary_bce: l1, of L_bBCE.
        feature: l2, of L_feat.
        boundary_logit: l3, of L_blogit.
        high_frequency: l4, of L_hf.

    Raises:
        MedcorePruneError: A weight is negative or not finite, or all are 0.
    """

    dice: float = 1.0
    boundary_bce: float = 1.0
    feature: float = 3.0
    boundary_logit: float = 1.5
    high_frequency: float = 0.5

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if not (math.isfinite(value) and value >= 0):
                raise MedcorePruneError(f"recovery weight {name} is {value}: expected a finite number of at least 0")
        if not any(vars(self).values()):
            raise MedcorePruneError("all recovery weights are 0: at least one term must count")

    def active(self) -> dict[str, float]:
        """Return the weights above 0 by the name of their term."""
        return {name: float(value) for name, value in dataclasses.asdict(self).items() if value}


_SAVE_EVERY = 25
_LEAST = {
    "steps": 1,
    "batch_size": 1,
    "accumulate": 1,
    "warmup_fraction": 0,
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
        batch_size: Images a step, drawn with replacement through all training objects together and augmented, each
            with up to 8 of its objects (`training.pool.OBJECTS_AN_IMAGE`); the loss is the mean over images of the mean
            over their objects.
        augmentation: One of `AUGMENTATION_NAMES`; boxes move outward a little in both.
        learning_rate: Peak of AdamW's learning rate; a half cosine to 0 follows the warm-up. None is 1e-3 for models of
            the pocket's shape, and 1e-4 for others (`training.rate`).
        warmup_fraction: Share of the steps in which the rate rises from 0, in [0, 1].
        weight_decay: Of AdamW, on matrices alone.
        clip_norm: Gradients are scaled down to this norm.
        weights: Of the terms of Eq. 14.
        lambda_b: Weight of the boundary band in L_bBCE.
        seed: Of batches and augmentation.
        validate_every: Steps between looks at the validation images; 0 for none, which keeps the last weights.
        patience: Looks in a row, all after the warm-up, that must show a decline beyond the noise for the recovery to
            stop (`record.declined`); 0 for never. The best weights are kept anyway.
        precision: `"fp32"`, `"tf32"` or `"bf16"` (`mp.computing`), for forward and backward passes; losses, gradients
            and weights are float32 in any. None is `bf16` where the hardware has it, else what torch is set to.
        accumulate: Equal slices of a batch that are made and computed one after the other, for less memory, their
            gradients summed in order; processes of `torchrun` share them. A divisor of `batch_size`.
        average: As of `AdaptSettings`; looks at the validation images then choose nothing but that share.

    Raises:
        MedcorePruneError: A value out of range.
    """

    steps: int = 300
    batch_size: int = 16
    augmentation: str = "flips"
    learning_rate: float | None = None
    warmup_fraction: float = 0.1
    weight_decay: float = 0.01
    clip_norm: float = 1.0
    weights: RecoveryWeights = field(default_factory=RecoveryWeights)
    lambda_b: float = DEFAULTS.lambda_b
    seed: int = 0
    validate_every: int = 25
    patience: int = 0
    precision: str | None = None
    accumulate: int = 1
    average: bool = False

    def __post_init__(self) -> None:
        for name, low in _LEAST.items():
            value = getattr(self, name)
            if not (math.isfinite(value) and value >= low):
                raise MedcorePruneError(f"recovery: {name} is {value}: expected at least {low}")
        if self.warmup_fraction > 1:
            raise MedcorePruneError(f"recovery: warmup_fraction is {self.warmup_fraction}: expected at most 1")
        require_known("augmentation", self.augmentation, AUGMENTATION_NAMES, MedcorePruneError)
        rate = {} if self.learning_rate is None else {"learning_rate": self.learning_rate}
        for name, value in (rate | {"clip_norm": self.clip_norm}).items():
            if not (math.isfinite(value) and value > 0):
                raise MedcorePruneError(f"recovery: {name} is {value}: expected a number above 0")
        _check_slices("recovery", self.accumulate, self.batch_size)

    def shortened(self, fraction: float) -> "RecoverySettings":
        """Return the same with that fraction of the steps, at least one."""
        return replace(self, steps=max(1, round(self.steps * fraction)))

    @property
    def warmup(self) -> int:
        """Steps in which the rate rises."""
        return max(bool(self.warmup_fraction), round(self.warmup_fraction * self.steps))

    def training(self) -> TrainSettings:
        """Return what the training loop reads; a learning rate must be named (`training.rate.rated`)."""
        if self.learning_rate is None:
            raise MedcorePruneError("recovery: learning_rate is None: expected the rate of a model")
        return TrainSettings(
            steps=self.steps,
            learning_rate=self.learning_rate,
            warmup=self.warmup,
            weight_decay=self.weight_decay,
            clip_norm=self.clip_norm,
            save_every=_SAVE_EVERY,
            validate_every=self.validate_every,
            precision=self.precision,
            accumulate=self.accumulate,
            average=self.average,
        )


DEFAULT_RECOVERY = RecoverySettings()
