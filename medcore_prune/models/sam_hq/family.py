"""SAM-HQ: a SAM whose masks are the sum of the decoder's own and those of SAM-HQ's token."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, cast

import torch
from torch import Tensor, nn

from ..._support.errors import MedcorePruneError
from ..families import register_family, untrained
from ..family import Geometry, no_decoder
from ..sam_shape import SamShape, is_hq, read_shape, stored_shape
from ..segment_anything import (
    SegmentAnythingFamily,
    attended,
    fill_sam,
    resized,
    resizes,
    sam_around,
    vit_of,
)
from .network import HqDecoder, HqEncoder

from segment_anything.modeling import Sam  # isort: skip


@register_family
class SamHqFamily(SegmentAnythingFamily):
    """Shows the blocks as SAM's; its embeddings hold the early block's channels after the neck's.

    Masks are those of SAM-HQ's default for one box: the logits of the first mask token plus those of its own token.
    """

    name = "sam_hq"
    kinds: Mapping[str, Mapping[str, Any]] = {}
    # where a file's protocol is another than MedSAM's
    protocol: Mapping[str, str] = {
        "mask": "logits of the first mask token plus those of SAM-HQ's; probabilities resized bilinearly, cut at 0.5"
    }

    def matches(self, model: nn.Module) -> bool:
        return isinstance(self.encoder(model), HqEncoder)

    def geometry(self, model: nn.Module) -> Geometry:
        own = super().geometry(model)
        return replace(own, beside_channels=own.embed_dim)

    def decode(self, model: nn.Module, embeddings: Tensor, boxes: Tensor) -> Tensor:
        return _decoded(model, embeddings, boxes)[1]

    def score(self, model: nn.Module, embeddings: Tensor, boxes: Tensor) -> tuple[Tensor, Tensor]:
        state, logits = _decoded(model, embeddings, boxes)
        decoder: Any = model.mask_decoder
        return logits, decoder.iou_prediction_head(state[:, 0])[:, 0]

    def build(self, settings: Mapping[str, Any]) -> Sam:
        return _modules(stored_shape(settings))

    def load(self, state: Mapping[str, Tensor], image_size: int | None = None) -> Sam | None:
        sizes = {name: tuple(value.shape) for name, value in state.items()}
        if not is_hq(sizes):
            return None
        shape = read_shape(sizes)
        model = build_sam_hq(shape, image_size=image_size)
        fill_sam(model, state, "SAM-HQ", resize=resizes(sizes, shape, image_size))
        return model


def build_sam_hq(
    shape: SamShape, device: str | torch.device = "cpu", image_size: int | None = None, seed: int = 0
) -> Sam:
    """Build a SAM with SAM-HQ's decoder and untrained weights, as `build_sam` does one without."""
    whole = shape if image_size is None else resized(shape, image_size)
    return cast(Sam, untrained(lambda: _modules(whole), device, seed))


def _modules(shape: SamShape) -> Sam:
    if not shape.global_blocks:
        raise MedcorePruneError("no block attends globally: SAM-HQ reads what the first of those gives")
    sam = sam_around(vit_of(shape, HqEncoder), shape, shape.image_size // shape.patch_size)
    own: Any = sam.mask_decoder
    # SAM's parts as they are, with the rest beside them
    sam.mask_decoder = HqDecoder(
        early_channels=shape.embed_dim,
        num_multimask_outputs=own.num_multimask_outputs,
        transformer=own.transformer,
        transformer_dim=own.transformer_dim,
        iou_head_depth=len(own.iou_prediction_head.layers),
        iou_head_hidden_dim=shape.iou_hidden_dim,
    )
    return sam


def _decoded(model: nn.Module, embeddings: Tensor, boxes: Tensor) -> tuple[Tensor, Tensor]:
    """What the decoder makes of its tokens, and the logits, (B, 1, 4 h, 4 w)."""
    if not isinstance(model, Sam):
        raise no_decoder(model)
    decoder: Any = model.mask_decoder
    width = decoder.transformer_dim
    embedding, early = embeddings[:, :width], embeddings[:, width:]
    state, source = attended(model, embedding, boxes, [decoder.iou_token, decoder.mask_tokens, decoder.hf_token])
    upscaled = decoder.output_upscaling(source)
    fine = decoder.finer(upscaled, embedding, early)
    # after the token of IoU and those of masks
    tokens = state[:, 1], state[:, 1 + len(decoder.mask_tokens.weight)]
    weights = decoder.output_hypernetworks_mlps[0](tokens[0]), decoder.hf_mlp(tokens[1])
    plain, hq = (torch.einsum("bc,bchw->bhw", *pair) for pair in zip(weights, (upscaled, fine), strict=True))
    return state, (plain + hq)[:, None]
