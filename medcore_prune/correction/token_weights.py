"""Which tokens the least squares of a correction cares for, without labels: all alike, the contour's, the gradient's.

Every weighting has mean 1 over the tokens of each image, so that it says where to look within an image and never which
image counts more (METHOD section 12).
"""

from collections.abc import Callable, Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..calibration.layer_gradients import LayerBatch, Round, watching
from ..data.masks import band_radius, boundary_band
from ..defaults import DEFAULTS
from ..models.families import blocks_of, geometry_of
from ..models.losses import boundary_loss
from ..models.protocol import decode, embed, input_logits, low_res_logits, rounds_of, rows_of
from .streams import ADDING_LAYERS, fold_windows

TokenWeights = Mapping[str, Tensor]
"""Qualified name of a layer to (B, h, w) weights of its tokens; layers that are not named weigh all alike."""


def adding_layers(model: nn.Module) -> dict[str, nn.Linear]:
    """Return the layers that add to the residual stream by qualified name, in order."""
    return {block.layer_names[role]: block.layers[role] for block in blocks_of(model) for role in ADDING_LAYERS}


def no_weights(
    _teacher: nn.Module, _images: Tensor, _boxes: Tensor, _owner: Sequence[int] | None = None
) -> TokenWeights:
    """All tokens alike."""
    return {}


@torch.no_grad()
def band_weights(teacher: nn.Module, images: Tensor, boxes: Tensor, owner: Sequence[int] | None = None) -> TokenWeights:
    """Weigh a token 1 + lambda_B * the share of its patch that lies in the boundary band, the same for all layers.

    The band is that of the mask that the teacher predicts (Eq. 9's B), so no label is read.
    """
    logits = input_logits(low_res_logits(teacher, images, boxes, owner).float(), images.shape[-1])
    band = boundary_band(logits > 0, band_radius(images.shape[-1]))
    weights: dict[str, Tensor] = {}
    for block in blocks_of(teacher):
        share = F.avg_pool2d(band, images.shape[-1] // block.tokens_side)[:, 0]
        weighed = _mean_one(1 + DEFAULTS.lambda_b * share)
        weights |= {block.layer_names[role]: weighed for role in ADDING_LAYERS}
    return weights


def gradient_weights(
    teacher: nn.Module, images: Tensor, boxes: Tensor, owner: Sequence[int] | None = None
) -> TokenWeights:
    """Weigh a token by the squared gradient of the teacher's loss with respect to the layer's output there.

    An error e of the output changes the loss by e' dL/d(output) to first order, whose square, the Fisher's view of e,
    is bounded by |e|^2 |dL/d(output)|^2: the weight is the second factor. L is L_bnd of Eq. 9 against the mask that
    the teacher itself predicts, so no label is read.
    """
    squares = _squared_gradients(teacher, images, boxes, owner)
    return {name: _mean_one(value) for name, value in squares.items()}


def gradient_norm_weights(
    teacher: nn.Module, images: Tensor, boxes: Tensor, owner: Sequence[int] | None = None
) -> TokenWeights:
    """Weigh a token by the norm of that gradient, not its square.

    The squares of one image span several powers of ten, and a fit by them knows little of most tokens, whose errors
    come back through the attention of later blocks; the root looks at the contour and still at everything.
    """
    squares = _squared_gradients(teacher, images, boxes, owner)
    return {name: _mean_one(value.sqrt()) for name, value in squares.items()}


def _squared_gradients(
    teacher: nn.Module, images: Tensor, boxes: Tensor, owner: Sequence[int] | None
) -> dict[str, Tensor]:
    # attention alone runs in windows
    grids = {
        block.layer_names[role]: (block.tokens_side, block.window if role == "proj" else 0)
        for block in blocks_of(teacher)
        for role in ADDING_LAYERS
    }
    owner = range(len(images)) if owner is None else owner
    rounds = rounds_of(owner)
    found: dict[str, list[Tensor]] = {name: [] for name in grids}

    def consume(name: str, batch: LayerBatch) -> None:
        squares = batch.gradients[0].square().sum(-1, keepdim=True)
        found[name].append(fold_windows(squares, len(squares), *grids[name])[..., 0])

    with watching(teacher, adding_layers(teacher), consume) as watch:
        embeddings = embed(teacher, images)
        for chosen in rounds:
            rows = [owner[place] for place in chosen]
            loss = _own_loss(teacher, rows_of(embeddings, rows), rows_of(boxes, chosen))
            among = Round(len(images), rows, last=chosen is rounds[-1])
            watch.backward([loss], [f"image {row}" for row in rows], among)
    order = [place for chosen in rounds for place in chosen]
    place_of = {box: row for row, box in enumerate(order)}
    in_order = [place_of[box] for box in range(len(boxes))]
    return {name: rows_of(torch.cat(parts), in_order) for name, parts in found.items()}


def _own_loss(teacher: nn.Module, embeddings: Tensor, boxes: Tensor) -> Tensor:
    """L_bnd of the teacher against its own masks, (B,)."""
    size = geometry_of(teacher).image_size
    logits = input_logits(decode(teacher, embeddings, boxes).float(), size)
    mask = (logits.detach() > 0).float()
    return boundary_loss(logits, mask, boundary_band(mask, band_radius(size)), DEFAULTS.lambda_b)


def _mean_one(weights: Tensor) -> Tensor:
    """Scale (B, h, w) to mean 1 an image; an image without any weight counts all its tokens alike."""
    weights = weights.float()
    mean = weights.mean((1, 2), keepdim=True)
    return torch.where(mean > 0, weights / mean, 1.0)


WEIGHTINGS: dict[str, Callable[[nn.Module, Tensor, Tensor, Sequence[int] | None], TokenWeights]] = {
    "none": no_weights,
    "band": band_weights,
    "gradient": gradient_weights,
    "gradient_norm": gradient_norm_weights,
}
"""Name to a function of teacher, images (N, 3, S, S), boxes (B, 4), and each box's image, None for one an image."""
