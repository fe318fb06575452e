"""The recovery loss of Eq. 14 on a batch: which terms there are, what each reads, and their weighted sum."""

import dataclasses
import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ._support.errors import MedcorePruneError
from .data.masks import band_radius, boundary_band
from .data.pool import Batch
from .models.losses import dice_loss
from .recovery_losses import (
    blur_sigma,
    boundary_bce,
    boundary_logit_distance,
    feature_distance,
    high_frequency_distance,
)
from .training import Loss, Outputs, outputs_of


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


@dataclass(frozen=True)
class Views:
    """What the terms of one batch of B samples may read.

    Attributes:
        student: The model's outputs.
        teacher: The unpruned teacher's on the same images; None where no active term reads it.
        masks: (B, 1, S, S) true masks in [0, 1].
        band: (B, 1, S, S), their boundary band.
        lambda_b: Weight of the band in L_bBCE.
    """

    student: Outputs
    teacher: Outputs | None
    masks: Tensor
    band: Tensor
    lambda_b: float

    @property
    def taught(self) -> Outputs:
        """The teacher's outputs."""
        assert self.teacher is not None
        return self.teacher


@dataclass(frozen=True)
class Term:
    """One term of Eq. 14: views to (B,), and whether it reads the teacher."""

    of: Callable[[Views], Tensor]
    reads_teacher: bool = False


TERMS: dict[str, Term] = {
    "dice": Term(lambda v: dice_loss(v.student.logits, v.masks)),
    "boundary_bce": Term(lambda v: boundary_bce(v.student.logits, v.masks, v.band, v.lambda_b)),
    "feature": Term(lambda v: feature_distance(v.student.features.float(), v.taught.features.float()), True),
    "boundary_logit": Term(lambda v: boundary_logit_distance(v.student.logits, v.taught.logits, v.band), True),
    "high_frequency": Term(lambda v: high_frequency_distance(v.student.logits, v.masks, blur_sigma(v.masks.shape[-1]))),
}
"""The terms by the names of their weights."""


class RecoveryObjective:
    """Eq. 14 as a loss for `training.train`, averaged over a batch.

    The teacher sees the batch that the model sees, augmentation and all, so its outputs are computed anew at each step:
    one more forward pass, no memory beyond its weights and one batch of outputs.

    Args:
        teacher: The unpruned model, on the device of the model that is trained; only read.
        weights: Of the terms.
        lambda_b: Weight of the boundary band in L_bBCE.
        mixed_precision: bfloat16 for forward passes where it is computed in hardware; losses are float32.
    """

    def __init__(self, teacher: nn.Module, weights: RecoveryWeights, lambda_b: float, mixed_precision: bool) -> None:
        self.teacher, self.weights, self.lambda_b = teacher, weights.active(), lambda_b
        self.mixed_precision = mixed_precision
        self._needs_teacher = any(TERMS[name].reads_teacher for name in self.weights)

    def __call__(self, model: nn.Module, batch: Batch) -> Loss:
        """Return the loss of a batch with its terms, unweighted."""
        views = self.views(model, batch)
        terms = {name: TERMS[name].of(views).mean() for name in self.weights}
        total = torch.stack([self.weights[name] * term for name, term in terms.items()]).sum()
        return Loss(total, {name: term.detach() for name, term in terms.items()})

    def views(self, model: nn.Module, batch: Batch) -> Views:
        """Run model and teacher on a batch."""
        taught = None
        if self._needs_teacher:
            with torch.no_grad():
                taught = outputs_of(self.teacher, batch, self.mixed_precision)
        size = batch.masks.shape[-1]
        band = boundary_band(batch.masks > 0.5, band_radius(size))
        return Views(outputs_of(model, batch, self.mixed_precision), taught, batch.masks, band, self.lambda_b)
