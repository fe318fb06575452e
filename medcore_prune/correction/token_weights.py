"""Which tokens the least squares of a correction cares for, without labels: all alike, the contour's, the gradient's.

Every weighting has mean 1 over the tokens of each image, so that it says where to look within an image and never which
image counts more (METHOD section 12).
"""

from collections.abc import Callable, Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..calibration.layer_gradients import LayerBatch, watching
from ..data.masks import band_radius, boundary_band
from ..defaults import DEFAULTS
from ..models.families import blocks_of
from ..models.losses import boundary_loss
from ..models.protocol import input_logits, low_res_logits
from .streams import ADDING_LAYERS, fold_windows

TokenWeights = Mapping[str, Tensor]
"""Qualified name of a layer to (B, h, w) weights of its tokens; layers that are not named weigh all alike."""


def adding_layers(model: nn.Module) -> dict[str, nn.Linear]:
    """Return the layers that add to the residual stream by qualified name, in order."""
    return {block.layer_names[role]: block.layers[role] for block in blocks_of(model) for role in ADDING_LAYERS}


def no_weights(_teacher: nn.Module, _images: Tensor, _boxes: Tensor) -> TokenWeights:
    """All tokens alike."""
    return {}


@torch.no_grad()
def band_weights(teacher: nn.Module, images: Tensor, boxes: Tensor) -> TokenWeights:
    """Weigh a token 1 + lambda_B * the share of its patch that lies in the boundary band, the same for all layers.

    The band is that of the mask that the teacher predicts (Eq. 9's B), so no label is read.
    """
    logits = input_logits(low_res_logits(teacher, images, boxes).float(), images.shape[-1])
    band = boundary_band(logits > 0, band_radius(images.shape[-1]))
    weights: dict[str, Tensor] = {}
    for block in blocks_of(teacher):
        share = F.avg_pool2d(band, images.shape[-1] // block.tokens_side)[:, 0]
        weighed = _mean_one(1 + DEFAULTS.lambda_b * share)
        weights |= {block.layer_names[role]: weighed for role in ADDING_LAYERS}
    return weights


def gradient_weights(teacher: nn.Module, images: Tensor, boxes: Tensor) -> TokenWeights:
    """Weigh a token by the squared gradient of the teacher's loss with respect to the layer's output there.

    An error e of the output changes the loss by e' dL/d(output) to first order, whose square, the Fisher's view of e,
    is bounded by |e|^2 |dL/d(output)|^2: the weight is the second factor. L is L_bnd of Eq. 9 against the mask that
    the teacher itself predicts, so no label is read.
    """
    squares = _squared_gradients(teacher, images, boxes)
    return {name: _mean_one(value) for name, value in squares.items()}


def gradient_norm_weights(teacher: nn.Module, images: Tensor, boxes: Tensor) -> TokenWeights:
    """Weigh a token by the norm of that gradient, not its square.

    The squares of one image span several powers of ten, and a fit by them knows little of most tokens, whose errors
    come back through the attention of later blocks; the root looks at the contour and still at everything.
    """
    squares = _squared_gradients(teacher, images, boxes)
    return {name: _mean_one(value.sqrt()) for name, value in squares.items()}


def _squared_gradients(teacher: nn.Module, images: Tensor, boxes: Tensor) -> dict[str, Tensor]:
    # attention alone runs in windows
    grids = {
        block.layer_names[role]: (block.tokens_side, block.window if role == "proj" else 0)
        for block in blocks_of(teacher)
        for role in ADDING_LAYERS
    }
    found: dict[str, Tensor] = {}

    def consume(name: str, batch: LayerBatch) -> None:
        squares = batch.gradients[0].square().sum(-1, keepdim=True)
        found[name] = fold_windows(squares, len(images), *grids[name])[..., 0]

    with watching(teacher, adding_layers(teacher), consume) as watch:
        logits = input_logits(low_res_logits(teacher, images, boxes).float(), images.shape[-1])
        mask = (logits.detach() > 0).float()
        band = boundary_band(mask, band_radius(images.shape[-1]))
        loss = boundary_loss(logits, mask, band, DEFAULTS.lambda_b)
        watch.backward([loss], [f"image {index}" for index in range(len(images))])
    return found


def _mean_one(weights: Tensor) -> Tensor:
    """Scale (B, h, w) to mean 1 an image; an image without any weight counts all its tokens alike."""
    weights = weights.float()
    mean = weights.mean((1, 2), keepdim=True)
    return torch.where(mean > 0, weights / mean, 1.0)


WEIGHTINGS: dict[str, Callable[[nn.Module, Tensor, Tensor], TokenWeights]] = {
    "none": no_weights,
    "band": band_weights,
    "gradient": gradient_weights,
    "gradient_norm": gradient_norm_weights,
}
"""Name to a function of teacher, images (B, 3, S, S) and boxes (B, 4)."""
