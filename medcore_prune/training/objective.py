"""What a training goes down: a model's outputs on a batch, their plain loss, and Eq. 14's terms with their sum."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..data.masks import band_radius, boundary_band
from ..defaults import DEFAULTS
from ..models.losses import dice_loss, plain_loss
from ..models.precision import autocast, training_precision
from ..models.protocol import decode, embed, input_logits, of_neck, rows_of
from .batches.batch import Batch
from .settings import RecoveryWeights


class Loss(NamedTuple):
    """The loss of a batch: the scalar to go down, and its parts by name, scalars that are only recorded."""

    total: Tensor
    terms: Mapping[str, Tensor] = {}


LossOf = Callable[[nn.Module, Batch], Loss]
"""What a model loses on a batch."""


class Objective(nn.Module):
    """A model with what it is trained for, whose forward returns the loss of a batch.

    `DistributedDataParallel` wraps one module and what its forward returns. What `loss_of` holds besides, a teacher, is
    no part of it.
    """

    def __init__(self, model: nn.Module, loss_of: LossOf) -> None:
        super().__init__()
        self.model, self.loss_of = model, loss_of

    def forward(self, batch: Batch) -> Loss:
        """Return the loss of a batch on the model's device."""
        return self.loss_of(self.model, batch)


@dataclass(frozen=True)
class Outputs:
    """What a model says about a batch.

    `features` are the neck's, (N, C, h, w); `logits` float32 at the input grid, (B, 1, S, S) for B boxes;
    `embeddings` what the decoder read, (N, ...).
    """

    features: Tensor
    logits: Tensor
    embeddings: Tensor


def outputs_of(
    model: nn.Module, batch: Batch, precision: str | None = "fp32", embeddings: Tensor | None = None
) -> Outputs:
    """Run a model on a batch in a precision, None for that of trainings; the encoder runs once an image.

    `embeddings` are those of the batch's images where they are known already.
    """
    device = batch.images.device
    # TF32 is a matter of switches, which are set around
    with autocast(training_precision(precision, device), device):
        if embeddings is None:
            embeddings = embed(model, batch.images)
        logits = decode(model, _of_boxes(embeddings, batch), batch.boxes)
    return Outputs(of_neck(model, embeddings), input_logits(logits.float(), batch.images.shape[-1]), embeddings)


def _of_boxes(embeddings: Tensor, batch: Batch) -> Tensor:
    """Give every box the embedding of its image."""
    if len(set(batch.counts)) == 1:
        return embeddings.repeat_interleave(batch.counts[0], dim=0)
    return rows_of(embeddings, batch.owner)


def batch_loss(model: nn.Module, batch: Batch, precision: str | None = "fp32") -> Tensor:
    """Mean Dice + BCE of a batch at the input grid, over its images and the objects of each."""
    return batch.mean(plain_loss(outputs_of(model, batch, precision).logits, batch.masks))


BLUR_SIGMA_PX = 3.0
"""Deviation of the blur of `high_frequency`, in pixels of the 256 grid."""
FLATTEST_TEACHER = 1.0
"""Squared logits; a teacher that varies less than this in a band is compared in logits."""
_SMALLEST = 1e-8


def boundary_bce(logits: Tensor, mask: Tensor, band: Tensor, lambda_b: float) -> Tensor:
    """Boundary-weighted binary cross-entropy as a weighted mean: (B,) non-negative.

        L_bBCE = sum_u w_u BCE_u / sum_u w_u,   w_u = 1 + lambda_B B_u

    Eq. 9 divides by the number of pixels instead, so that its second term grows with lambda_B and with the length of
    the contour; divided by the weights, it stays between the smallest and the largest BCE of a pixel and does not
    dominate Dice at the start of a recovery. All are (B, 1, H, W): mask in [0, 1], band of 0 and 1.
    """
    pixelwise = F.binary_cross_entropy_with_logits(logits, mask.to(logits.dtype), reduction="none")
    weight = 1 + lambda_b * band.to(logits.dtype)
    return (weight * pixelwise).flatten(1).sum(1) / weight.flatten(1).sum(1)


def feature_distance(features: Tensor, teacher: Tensor) -> Tensor:
    """Squared distance of image embeddings (B, C, h, w), relative to the teacher's: (B,), 1 for features of all zero.

    L_feat = sum (f - f_T)^2 / sum f_T^2
    """
    distance = (features - teacher).square().flatten(1).sum(1)
    return distance / teacher.square().flatten(1).sum(1).clamp(min=_SMALLEST)


def boundary_logit_distance(logits: Tensor, teacher: Tensor, band: Tensor) -> Tensor:
    """Squared distance of logits to the teacher's inside the boundary band, relative to how much those vary there.

        L_blogit = 1/|B| sum_{u in B} (l_u - l_T,u)^2 / max(Var_B(l_T), 1)

    All are (B, 1, H, W), the band of 0 and 1 around the true contour. (B,), 1 for the teacher's mean everywhere, 0
    where the band has no pixel.
    """
    inside, count = band.flatten(1), band.flatten(1).sum(1).clamp(min=1)
    ours, theirs = logits.flatten(1), teacher.flatten(1)
    mean = (inside * theirs).sum(1, keepdim=True) / count[:, None]
    variance = (inside * (theirs - mean).square()).sum(1) / count
    distance = (inside * (ours - theirs).square()).sum(1) / count
    return distance / variance.clamp(min=FLATTEST_TEACHER)


def high_frequency_distance(logits: Tensor, mask: Tensor, sigma_px: float) -> Tensor:
    """Squared difference of the high-frequency parts of the predicted and the true mask, relative to the true one's.

        L_hf = sum_u (H p - H y)_u^2 / sum_u (H y)_u^2,   H x = x - G_sigma * x,   p = sigmoid(l)

    Both are (B, 1, H, W), the mask in [0, 1]; sigma is in pixels, above 0. (B,), 1 for a constant prediction.
    """
    target = mask.to(logits.dtype)
    difference = _high(logits.sigmoid() - target, sigma_px)
    return difference.square().flatten(1).sum(1) / _high(target, sigma_px).square().flatten(1).sum(1).clamp(min=1.0)


def blur_sigma(size: int) -> float:
    """Scale the blur's deviation from the 256 grid to another, as `masks.band_radius` does but without rounding."""
    return BLUR_SIGMA_PX * size / DEFAULTS.band_grid_px


def _high(values: Tensor, sigma_px: float) -> Tensor:
    return values - gaussian_blur(values, sigma_px)


def gaussian_blur(values: Tensor, sigma_px: float) -> Tensor:
    """Blur (B, 1, H, W) with a Gaussian cut off at three deviations; the border repeats outward."""
    radius = max(1, math.ceil(3 * sigma_px))
    offsets = torch.arange(-radius, radius + 1, dtype=values.dtype, device=values.device)
    kernel = torch.exp(-0.5 * (offsets / sigma_px).square())
    kernel = kernel / kernel.sum()
    padded = F.pad(values, (radius,) * 4, mode="replicate")
    return F.conv2d(F.conv2d(padded, kernel.view(1, 1, 1, -1)), kernel.view(1, 1, -1, 1))


@dataclass(frozen=True)
class Views:
    """What the terms of one batch of N images with B objects may read.

    `teacher` are the unpruned teacher's outputs on the same images, None where no active term reads it; `masks` the
    true ones, (B, 1, S, S) in [0, 1], and `band` their boundary band; `lambda_b` weighs the band in L_bBCE.
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
    """One term of Eq. 14: views to (B,), or to (N,) where it is of images, and whether it reads the teacher."""

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


class RecoveryLoss:
    """Eq. 14 as a loss for `training.train`, averaged over a batch; losses are float32 in any precision.

    The teacher, on the device of the model that is trained, sees the batch that the model sees, augmentation and all,
    so its outputs are computed anew at each step: one more forward pass, no memory beyond its weights and one batch of
    outputs.
    """

    def __init__(self, teacher: nn.Module, weights: RecoveryWeights, lambda_b: float, precision: str | None) -> None:
        self.teacher, self.weights, self.lambda_b = teacher, weights.active(), lambda_b
        self.precision = precision
        self._needs_teacher = any(TERMS[name].reads_teacher for name in self.weights)

    def __call__(self, model: nn.Module, batch: Batch) -> Loss:
        """Return the loss of a batch with its terms, unweighted."""
        views = self.views(model, batch)
        terms = {name: batch.mean(TERMS[name].of(views)) for name in self.weights}
        total = torch.stack([self.weights[name] * term for name, term in terms.items()]).sum()
        return Loss(total, {name: term.detach() for name, term in terms.items()})

    def views(self, model: nn.Module, batch: Batch) -> Views:
        """Run model and teacher on a batch."""
        taught = None
        if self._needs_teacher:
            with torch.no_grad():
                taught = outputs_of(self.teacher, batch, self.precision)
        size = batch.masks.shape[-1]
        band = boundary_band(batch.masks > 0.5, band_radius(size))
        return Views(outputs_of(model, batch, self.precision), taught, batch.masks, band, self.lambda_b)
