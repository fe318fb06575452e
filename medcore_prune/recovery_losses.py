"""The terms of the recovery loss beside Dice, one value a sample (METHOD section 8, Eq. 14).

    L_rec = L_Dice + l1 L_bBCE + l2 L_feat + l3 L_blogit + l4 L_hf

Each term is relative to something of its own kind (the weights' sum, the teacher's energy, the true mask's energy), so
that all of them are of the order of one for a model that has lost everything, whatever the image size.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from .defaults import DEFAULTS

BLUR_SIGMA_PX = 3.0
"""Deviation of the blur of `high_frequency`, in pixels of the 256 grid."""
FLATTEST_TEACHER = 1.0
"""Squared logits; a teacher that varies less than this in a band is compared in logits."""
_SMALLEST = 1e-8


def boundary_bce(logits: Tensor, mask: Tensor, band: Tensor, lambda_b: float) -> Tensor:
    """Boundary-weighted binary cross-entropy as a weighted mean.

        L_bBCE = sum_u w_u BCE_u / sum_u w_u,   w_u = 1 + lambda_B B_u

    Eq. 9 divides by the number of pixels instead, so that its second term grows with lambda_B and with the length of
    the contour; divided by the weights, it stays between the smallest and the largest BCE of a pixel and does not
    dominate Dice at the start of a recovery.

    Args:
        logits: (B, 1, H, W) float.
        mask: (B, 1, H, W) in [0, 1].
        band: (B, 1, H, W) of 0 and 1, from `losses.boundary_band`.
        lambda_b: Weight of the band, at least 0; 0 gives the plain BCE.

    Returns:
        (B,) non-negative.
    """
    pixelwise = F.binary_cross_entropy_with_logits(logits, mask.to(logits.dtype), reduction="none")
    weight = 1 + lambda_b * band.to(logits.dtype)
    return (weight * pixelwise).flatten(1).sum(1) / weight.flatten(1).sum(1)


def feature_distance(features: Tensor, teacher: Tensor) -> Tensor:
    """Squared distance of image embeddings, relative to the teacher's.

        L_feat = sum (f - f_T)^2 / sum f_T^2

    Args:
        features: (B, C, h, w), what the image encoder hands to the decoder.
        teacher: Likewise of the teacher.

    Returns:
        (B,) non-negative; 1 for features of all zero.
    """
    distance = (features - teacher).square().flatten(1).sum(1)
    return distance / teacher.square().flatten(1).sum(1).clamp(min=_SMALLEST)


def boundary_logit_distance(logits: Tensor, teacher: Tensor, band: Tensor) -> Tensor:
    """Squared distance of logits to the teacher's inside the boundary band, relative to how much those vary there.

        L_blogit = 1/|B| sum_{u in B} (l_u - l_T,u)^2 / max(Var_B(l_T), 1)

    Args:
        logits: (B, 1, H, W) float.
        teacher: Likewise of the teacher.
        band: (B, 1, H, W) of 0 and 1, around the true contour.

    Returns:
        (B,) non-negative; 1 for the teacher's mean everywhere; 0 where the band has no pixel.
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

    Args:
        logits: (B, 1, H, W) float.
        mask: (B, 1, H, W) in [0, 1].
        sigma_px: Deviation of the Gaussian in pixels, above 0; see `blur_sigma`.

    Returns:
        (B,) non-negative; 1 for a constant prediction.
    """
    target = mask.to(logits.dtype)
    difference = _high(logits.sigmoid() - target, sigma_px)
    return difference.square().flatten(1).sum(1) / _high(target, sigma_px).square().flatten(1).sum(1).clamp(min=1.0)


def blur_sigma(size: int, sigma_px: float = BLUR_SIGMA_PX, grid_px: int = DEFAULTS.band_grid_px) -> float:
    """Scale the blur's deviation from the 256 grid to another, as `losses.band_radius` does but without rounding."""
    return sigma_px * size / grid_px


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
