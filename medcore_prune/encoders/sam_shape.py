"""The hyper-parameters of a `Sam` read back from the module itself, pruned or not."""

import dataclasses
from typing import Any

from torch import nn

from .._support.errors import MedcorePruneError
from .segment_anything import SHAPES, Sam, SamShape, SegmentAnythingFamily

_ANY_WINDOW = 14  # of a model that attends globally everywhere, where the value is never read
_MLP_RATIO = 4


def shape_of(model: nn.Module) -> SamShape:
    """Read the shape that `build_sam` would make a model from, as it was before any pruning.

    The head dimension and the width of a token survive pruning, and segment-anything has embed_dim = heads x head
    dimension and four neurons a channel.

    Args:
        model: A whole `Sam`, on any device, `meta` included.

    Returns:
        The shape.

    Raises:
        MedcorePruneError: No whole `Sam`.
    """
    if not isinstance(model, Sam):
        raise MedcorePruneError(f"expected a whole Sam (encoder, prompts, decoder), got {type(model).__name__}")
    family = SegmentAnythingFamily()
    geometry, blocks = family.geometry(model), family.blocks(model)
    decoder: Any = model.mask_decoder
    layer = decoder.transformer.layers[0]
    windows = [block.window for block in blocks]
    return SamShape(
        image_size=geometry.image_size,
        patch_size=geometry.patch_size,
        embed_dim=geometry.embed_dim,
        depth=len(blocks),
        num_heads=geometry.embed_dim // blocks[0].head_dim,
        global_blocks=tuple(block.index for block in blocks if not block.window),
        window=max(windows) or _ANY_WINDOW,
        out_channels=geometry.out_channels,
        decoder_heads=int(layer.self_attn.num_heads),
        decoder_mlp_dim=int(layer.mlp.lin1.out_features),
        iou_hidden_dim=int(decoder.iou_prediction_head.layers[0].out_features),
    )


def whole_sizes(shape: SamShape) -> list[tuple[int, int]]:
    """Heads and neurons of every block of an unpruned model of a shape."""
    return [(shape.num_heads, _MLP_RATIO * shape.embed_dim)] * shape.depth


def kind_of(shape: SamShape) -> str:
    """Name the kind in `SHAPES` that a shape is, whatever its input size; `custom` for none of them."""
    for name, known in SHAPES.items():
        if dataclasses.replace(known, image_size=shape.image_size) == shape:
            return name
    return "custom"
