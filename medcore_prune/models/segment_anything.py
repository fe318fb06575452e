"""SAM and MedSAM: segment-anything's `ImageEncoderViT`, alone or inside a full `Sam`."""

import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from functools import partial
from typing import Any, Protocol, cast

import torch
from torch import Tensor, nn

from .. import compat  # noqa: F401  # before segment_anything, which imports torchvision
from .._support.errors import CheckpointError, MedcorePruneError, MedcorePruneWarning
from .families import register_family, untrained
from .family import Block, Geometry, block_of, no_decoder
from .pairs import differences, summary
from .sam_hq.network import HqEncoder
from .sam_shape import SHAPES, SamShape, Sizes, global_side, is_hq, is_sam, kind_of, read_shape, require_kind
from .sdpa import Attention, SdpaAttention

from segment_anything.modeling import (  # isort: skip
    ImageEncoderViT,
    MaskDecoder,
    PromptEncoder,
    Sam,
    TwoWayTransformer,
)

_LAYER_PATHS = {"qkv": "attn.qkv", "proj": "attn.proj", "lin1": "mlp.lin1", "lin2": "mlp.lin2"}


class DecoderShape(Protocol):
    """Sizes of prompt encoder and mask decoder."""

    @property
    def image_size(self) -> int: ...
    @property
    def out_channels(self) -> int: ...
    @property
    def decoder_heads(self) -> int: ...
    @property
    def decoder_mlp_dim(self) -> int: ...
    @property
    def iou_hidden_dim(self) -> int: ...


def sam_around(encoder: nn.Module, shape: DecoderShape, side: int) -> Sam:
    """Put prompt encoder and mask decoder with untrained weights behind an encoder of side x side embeddings."""
    prompts = PromptEncoder(
        embed_dim=shape.out_channels,
        image_embedding_size=(side, side),
        input_image_size=(shape.image_size, shape.image_size),
        mask_in_chans=16,
    )
    decoder = MaskDecoder(
        num_multimask_outputs=3,
        transformer=TwoWayTransformer(2, shape.out_channels, shape.decoder_heads, shape.decoder_mlp_dim),
        transformer_dim=shape.out_channels,
        iou_head_depth=3,
        iou_head_hidden_dim=shape.iou_hidden_dim,
    )
    # MedSAM feeds images in [0, 1]; SamPredictor would subtract SAM's mean and deviation, so make that a no-op scale
    sam = Sam(encoder, prompts, decoder, pixel_mean=[0.0, 0.0, 0.0], pixel_std=[255.0, 255.0, 255.0])
    sam.prompt_encoder.requires_grad_(False)
    return sam


def decode_boxes(model: Sam, embeddings: Tensor, boxes: Tensor) -> Tensor:
    """Compute what `MaskDecoder.predict_masks` does for one image and many prompts, for many images with one each.

    Embeddings (B, C, h, w) and boxes (B, 4) in input pixels give (B, 1, 4 h, 4 w) logits. Only the first mask token is
    upscaled (`multimask_output=False`).
    """
    return _decoded(model, embeddings, boxes)[1]


def score_boxes(model: Sam, embeddings: Tensor, boxes: Tensor) -> tuple[Tensor, Tensor]:
    """Compute `decode_boxes`, and how good the decoder thinks each mask is: its IoU with the truth, (B,)."""
    state, logits = _decoded(model, embeddings, boxes)
    return logits, model.mask_decoder.iou_prediction_head(state[:, 0])[:, 0]


def _decoded(model: Sam, embeddings: Tensor, boxes: Tensor) -> tuple[Tensor, Tensor]:
    """What the decoder makes of its tokens, and the logits."""
    decoder = model.mask_decoder
    state, source = attended(model, embeddings, boxes, [decoder.iou_token, decoder.mask_tokens])
    upscaled = decoder.output_upscaling(source)
    weights = decoder.output_hypernetworks_mlps[0](state[:, 1])
    return state, torch.einsum("bc,bchw->bhw", weights, upscaled)[:, None]


def attended(
    model: Sam, embeddings: Tensor, boxes: Tensor, own_tokens: Sequence[nn.Embedding]
) -> tuple[Tensor, Tensor]:
    """Run the decoder's transformer: its tokens after it, own ones first, (B, n, C), and the image (B, C, h, w)."""
    decoder, prompts = model.mask_decoder, model.prompt_encoder
    with _single_precision(prompts.pe_layer):
        sparse, dense = prompts(points=None, boxes=boxes, masks=None)
        dense_position = prompts.get_dense_pe()
    fixed = torch.cat([tokens.weight for tokens in own_tokens])
    # not len(boxes): an exporter would take that number for a constant
    count = boxes.shape[0]
    tokens = torch.cat([fixed.expand(count, -1, -1), sparse], dim=1)
    position = dense_position.expand(count, -1, -1, -1)
    state, source = decoder.transformer(embeddings + dense, position, tokens)
    return state, source.transpose(1, 2).reshape(embeddings.shape)


@contextmanager
def _single_precision(positions: Any) -> Iterator[None]:
    """Encode positions in float32, as segment-anything makes coordinates whatever the model's numbers are."""
    own = positions.positional_encoding_gaussian_matrix
    if own.dtype != torch.float64:
        yield
        return
    positions.positional_encoding_gaussian_matrix = own.float()
    try:
        yield
    finally:
        positions.positional_encoding_gaussian_matrix = own


def vit_of(shape: SamShape, kind: type[ImageEncoderViT] = ImageEncoderViT) -> ImageEncoderViT:
    """Build the image encoder of a shape, of segment-anything's class or one derived from it."""
    return kind(
        img_size=shape.image_size,
        patch_size=shape.patch_size,
        embed_dim=shape.embed_dim,
        depth=shape.depth,
        num_heads=shape.num_heads,
        mlp_ratio=4,
        out_chans=shape.out_channels,
        qkv_bias=True,
        norm_layer=partial(nn.LayerNorm, eps=1e-6),
        use_rel_pos=True,
        window_size=shape.window,
        global_attn_indexes=shape.global_blocks,
    )


def _modules(shape: SamShape) -> Sam:
    return sam_around(vit_of(shape), shape, shape.image_size // shape.patch_size)


LARGEST_IMAGE_SIZE = 1 << 16
"""Side in pixels up to which a SAM is built; the largest that is known takes 1024."""


def resized(shape: SamShape, image_size: int) -> SamShape:
    """The shape with another input side, if its patches tile that."""
    if image_size < shape.patch_size or image_size % shape.patch_size:
        raise MedcorePruneError(
            f"image size {image_size} does not fit: use a positive multiple of the patch size {shape.patch_size}"
        )
    if image_size > LARGEST_IMAGE_SIZE:
        raise MedcorePruneError(f"image size {image_size} does not fit: use at most {LARGEST_IMAGE_SIZE}")
    return replace(shape, image_size=image_size)


def build_sam(
    kind: str | SamShape, device: str | torch.device = "cpu", image_size: int | None = None, seed: int = 0
) -> Sam:
    """Build a SAM with untrained weights.

    Args:
        kind: A name in `SHAPES` (`vit_b`, `vit_l`, `vit_h`, `pocket`) or a shape of your own.
        device: Where the parameters live; `"meta"` takes no memory and is enough for plans and costs.
        image_size: Another input side in pixels, a multiple of the patch size.
        seed: Of the initial weights; the global generator is left as it was.

    Returns:
        A `Sam` in evaluation mode whose prompt encoder needs no gradient.

    Raises:
        MedcorePruneError: Unknown kind, or an image size that the patch size does not divide.
    """
    shape = kind if isinstance(kind, SamShape) else require_kind(kind)
    if image_size is not None:
        shape = resized(shape, image_size)
    return cast(Sam, untrained(lambda: _modules(shape), device, seed))


@register_family
class SegmentAnythingFamily:
    """Shows the blocks of segment-anything's encoder, and builds whole models."""

    name = "segment_anything"
    kinds: Mapping[str, Mapping[str, Any]] = {name: asdict(shape) for name, shape in SHAPES.items()}
    # what stands in for attention while torch-pruning traces it, see `traceable`
    attention_gives_weights = False
    attentions: Mapping[str, type[nn.Module]] = {"segment-anything": Attention, "sdpa": SdpaAttention}

    def matches(self, model: nn.Module) -> bool:
        encoder = self.encoder(model)
        return isinstance(encoder, ImageEncoderViT) and not isinstance(encoder, HqEncoder)

    def encoder(self, model: nn.Module) -> nn.Module:
        return model.image_encoder if isinstance(model, Sam) else model

    def blocks(self, model: nn.Module) -> list[Block]:
        prefix = "image_encoder." if isinstance(model, Sam) else ""
        encoder: Any = self.encoder(model)
        return [self._block(index, block, f"{prefix}blocks.{index}") for index, block in enumerate(encoder.blocks)]

    def _block(self, index: int, block: Any, name: str) -> Block:
        return block_of(block, index, name, _LAYER_PATHS, block.attn, int(block.attn.num_heads), int(block.window_size))

    def geometry(self, model: nn.Module) -> Geometry:
        encoder: Any = self.encoder(model)
        patch = encoder.patch_embed.proj
        return Geometry(
            image_size=int(encoder.img_size),
            patch_size=int(patch.kernel_size[0]),
            embed_dim=int(patch.out_channels),
            out_channels=int(encoder.neck[0].out_channels),
        )

    def set_num_heads(self, block: Block, num_heads: int) -> None:
        attention: Any = block.attention
        attention.num_heads = num_heads

    def embed(self, model: nn.Module, images: Tensor) -> Tensor:
        return self.encoder(model)(images)

    def decode(self, model: nn.Module, embeddings: Tensor, boxes: Tensor) -> Tensor:
        if not isinstance(model, Sam):
            raise no_decoder(model)
        return decode_boxes(model, embeddings, boxes)

    def score(self, model: nn.Module, embeddings: Tensor, boxes: Tensor) -> tuple[Tensor, Tensor]:
        if not isinstance(model, Sam):
            raise no_decoder(model)
        return score_boxes(model, embeddings, boxes)

    def build(self, settings: Mapping[str, Any]) -> Sam:
        shape = SamShape(**{**settings, "global_blocks": tuple(settings["global_blocks"])})
        return _modules(resized(shape, shape.image_size))

    def settings(self, model: nn.Module) -> Mapping[str, Any]:
        return asdict(shape_of(model))

    def load(self, state: Mapping[str, Tensor], image_size: int | None = None) -> Sam | None:
        sizes = {name: tuple(value.shape) for name, value in state.items()}
        if not is_sam(sizes) or is_hq(sizes):
            return None
        shape = read_shape(sizes)
        model = build_sam(shape, image_size=image_size)
        fill_sam(model, state, kind_of(shape), resize=resizes(sizes, shape, image_size))
        return model


def resizes(sizes: Sizes, shape: SamShape, image_size: int | None) -> bool:
    """Whether a checkpoint's positions are to be resized: for another image size, or, which is said, another grid."""
    side, tokens = global_side(sizes, shape), shape.image_size // shape.patch_size
    if image_size is None and side != tokens and _is_told(sizes, shape):
        warnings.warn(
            f"the checkpoint's relative positions are for {side} x {side} tokens, its positions for {tokens} x {tokens}"
            f" ({shape.image_size} px): they are interpolated, as segment-anything does when it runs",
            MedcorePruneWarning,
            stacklevel=2,
        )
        return True
    return image_size is not None


def _is_told(sizes: Sizes, shape: SamShape) -> bool:
    try:
        return read_shape(sizes) == shape
    except CheckpointError:
        return False


def fill_sam(model: Sam, state: Mapping[str, Tensor], kind: str, resize: bool = False) -> None:
    """Load weights into a SAM; where names or shapes differ the error calls them `kind` and lists the first.

    With `resize` the image size may differ: positions are then resized, as segment-anything's fine-tuners do.
    """
    expected, state = model.state_dict(), dict(state)
    # a scale for SamPredictor alone; files of either kind may lack it or hold SAM's own
    for name in ("pixel_mean", "pixel_std"):
        state.pop(name, None)
        expected.pop(name, None)
    if resize:
        state = {name: _resize_position(value, expected.get(name)) for name, value in state.items()}
    if lines := differences(expected, state):
        raise CheckpointError(
            f"does not fit {kind}: {summary(lines)}; it holds {next(iter(state), 'nothing')}: is it another model?"
        )
    model.load_state_dict(state, strict=False)


def _resize_position(value: Tensor, target: Tensor | None) -> Tensor:
    """Resize position tables, the only parameters whose shape depends on the image size."""
    if target is None or value.shape == target.shape:
        return value
    if value.ndim == 4 and value.shape[-1] == target.shape[-1]:  # pos_embed (1, h, w, C)
        moved = nn.functional.interpolate(value.permute(0, 3, 1, 2), target.shape[1:3], mode="bilinear")
        return moved.permute(0, 2, 3, 1)
    if value.ndim == 2 and value.shape[1] == target.shape[1]:  # rel_pos (2 * side - 1, head_dim)
        return nn.functional.interpolate(value.T[None], len(target), mode="linear")[0].T
    return value


_ANY_WINDOW = 14  # of a model that attends globally everywhere, where the value is never read


def shape_of(model: nn.Module) -> SamShape:
    """Read the shape that `build_sam` would make a whole `Sam`, on any device, from, as it was before any pruning.

    The head dimension and the width of a token survive pruning, and segment-anything has embed_dim = heads x head
    dimension and four neurons a channel.
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
