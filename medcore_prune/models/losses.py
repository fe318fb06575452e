"""The boundary-aware loss of Eq. 9, one value a sample, and its parts.

    B(y)  = dilate(y) - erode(y)
    L_bnd = L_Dice + 1/|Omega| sum_u (1 + lambda_B B_u) BCE_u

All losses take logits at the input grid (`protocol.input_logits`) and are linear in lambda_B, so that the gradients
of `plain_loss` and `band_term` give the Fisher for every lambda_B (METHOD section 5).
"""

import torch.nn.functional as F
from torch import Tensor

DICE_EPSILON = 1e-5


def dice_loss(logits: Tensor, mask: Tensor) -> Tensor:
    """Soft Dice loss with squared denominator, as MedSAM trains it: (B, 1, H, W) logits and mask to (B,) in [0, 1].

    L_Dice = 1 - (2 sum_u p_u y_u + eps) / (sum_u p_u^2 + sum_u y_u^2 + eps),   p = sigmoid(l)
    """
    probability, target = logits.sigmoid().flatten(1), mask.to(logits.dtype).flatten(1)
    overlap = (probability * target).sum(1)
    size = probability.square().sum(1) + target.square().sum(1)
    return 1 - (2 * overlap + DICE_EPSILON) / (size + DICE_EPSILON)


def bce_loss(logits: Tensor, mask: Tensor) -> Tensor:
    """Binary cross-entropy averaged over each sample's pixels: (B, 1, H, W) logits and mask to (B,)."""
    target = mask.to(logits.dtype)
    return F.binary_cross_entropy_with_logits(logits, target, reduction="none").flatten(1).mean(1)


def band_term(logits: Tensor, mask: Tensor, band: Tensor) -> Tensor:
    """The part of Eq. 9 that lambda_B multiplies, (B,): 1/|Omega| sum_u B_u BCE_u, over *all* pixels."""
    target = mask.to(logits.dtype)
    pixelwise = F.binary_cross_entropy_with_logits(logits, target, reduction="none")
    return (band.to(logits.dtype) * pixelwise).flatten(1).mean(1)


def plain_loss(logits: Tensor, mask: Tensor) -> Tensor:
    """Dice plus binary cross-entropy: Eq. 9 at lambda_B = 0; (B, 1, H, W) twice to (B,)."""
    return dice_loss(logits, mask) + bce_loss(logits, mask)


def boundary_loss(logits: Tensor, mask: Tensor, band: Tensor, lambda_b: float) -> Tensor:
    """The boundary-aware loss L_bnd of Eq. 9, (B,), for a weight lambda_B of at least 0."""
    return plain_loss(logits, mask) + lambda_b * band_term(logits, mask, band)
