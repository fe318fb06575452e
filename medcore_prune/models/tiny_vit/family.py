"""MobileSAM and LiteMedSAM: a TinyViT encoder, alone or inside segment-anything's `Sam` (METHOD section 13)."""

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from ... import compat  # noqa: F401  # before segment_anything, which imports torchvision
from ..._support.errors import CheckpointError, MedcorePruneError
from ..families import register_family
from ..family import Block, Geometry, block_of, no_decoder
from ..pairs import differences, summary
from ..segment_anything import decode_boxes, sam_around, score_boxes
from .network import Attention, SdpaAttention, TinyVit
from .shape import KINDS, TinyVitShape, is_tiny_vit, kind_of_tiny_vit, read_tiny_vit

from segment_anything.modeling import Sam  # isort: skip

_LAYER_PATHS = {"qkv": "attn.qkv", "proj": "attn.proj", "lin1": "mlp.fc1", "lin2": "mlp.fc2"}
# MobileSAM's file has the classifier that its encoder was distilled with; LiteMedSAM's and SAM's scale is not used
_UNUSED = ("image_encoder.norm_head.", "image_encoder.head.", "pixel_mean", "pixel_std")
# tensors that can be computed from the shape: some files have them, some not
_DERIVED = (".attn.attention_bias_idxs", ".attn.ab", ".bn.num_batches_tracked")


@register_family
class TinyVitFamily:
    """Shows the ten blocks of attention, and builds whole models."""

    name = "tiny_vit"
    kinds: Mapping[str, Mapping[str, Any]] = {name: shape.values() for name, shape in KINDS.items()}
    attentions: Mapping[str, type[nn.Module]] = {"segment-anything": Attention, "sdpa": SdpaAttention}
    preferred_attention = "sdpa"

    def matches(self, model: nn.Module) -> bool:
        return isinstance(self.encoder(model), TinyVit)

    def encoder(self, model: nn.Module) -> nn.Module:
        return model.image_encoder if isinstance(model, Sam) else model

    def blocks(self, model: nn.Module) -> list[Block]:
        prefix = "image_encoder." if isinstance(model, Sam) else ""
        encoder: Any = self.encoder(model)
        stages = [(f"{prefix}layers.{n}", stage) for n, stage in enumerate(encoder.layers) if n]
        places = [(f"{name}.blocks.{n}", stage, n) for name, stage in stages for n in range(len(stage.blocks))]
        sides = self._sides(encoder)
        return [self._block(index, *place, sides[place[1]]) for index, place in enumerate(places)]

    def _block(self, index: int, name: str, stage: Any, place: int, side: int) -> Block:
        block = stage.blocks[place]
        last = place == len(stage.blocks) - 1
        return block_of(
            block,
            index,
            name,
            _LAYER_PATHS,
            block.attn,
            int(block.attn.num_heads),
            int(block.window_size),
            side=side,
            row_order="heads",
            head_tables=("attention_biases",),
            mlp_entry=block.mlp,
            then=stage.downsample if last else None,
        )

    def _sides(self, encoder: Any) -> dict[nn.Module, int]:
        """Tokens along a side in each stage, from the strides before it."""
        side = encoder.img_size // _stem(encoder)[1] ** 2
        found = {}
        for stage in encoder.layers:
            found[stage] = side
            side //= stage.downsample.conv2.c.stride[0] if stage.downsample is not None else 1
        return found

    def geometry(self, model: nn.Module) -> Geometry:
        encoder: Any = self.encoder(model)
        first = self.blocks(model)[0]
        return Geometry(
            image_size=int(encoder.img_size),
            patch_size=int(encoder.img_size) // first.tokens_side,
            embed_dim=first.width,
            out_channels=int(encoder.neck[0].out_channels),
            padded=True,
        )

    def set_num_heads(self, block: Block, num_heads: int) -> None:
        attention: Any = block.attention
        attention.num_heads = num_heads

    def embed(self, model: nn.Module, images: Tensor) -> Tensor:
        return self.encoder(model)(images)

    def stem_parts(self, model: nn.Module) -> list[nn.Module]:
        """The modules of the stem."""
        encoder: Any = self.encoder(model)
        return [encoder.patch_embed, encoder.layers[0]]

    def stem(self, model: nn.Module, images: Tensor) -> Tensor:
        """What the first block reads: (B, 3, S, S) to (B, h, w, C)."""
        encoder: Any = self.encoder(model)
        tokens: Tensor = encoder.stem(images)
        return tokens

    def rest(self, model: nn.Module, tokens: Tensor) -> Tensor:
        """The embedding of what `stem` gives."""
        encoder: Any = self.encoder(model)
        embedding: Tensor = encoder.rest(tokens)
        return embedding

    def decode(self, model: nn.Module, embeddings: Tensor, boxes: Tensor) -> Tensor:
        if not isinstance(model, Sam):
            raise no_decoder(model)
        return decode_boxes(model, embeddings, boxes)

    def score(self, model: nn.Module, embeddings: Tensor, boxes: Tensor) -> tuple[Tensor, Tensor]:
        if not isinstance(model, Sam):
            raise no_decoder(model)
        return score_boxes(model, embeddings, boxes)

    def fixed_macs(self, model: nn.Module) -> tuple[int, int]:
        """Multiply-accumulates of all convolutions, which no cut changes: up to the last block, and of the neck."""
        encoder: Any = self.encoder(model)
        sides, stem = self._sides(encoder), _stem(encoder)[1]
        around = 0
        for n, layer in enumerate((encoder.patch_embed.seq[0], encoder.patch_embed.seq[2])):
            around += _conv_macs(layer.c, encoder.img_size // stem ** (n + 1))
        for stage in encoder.layers:
            merging = stage.downsample
            for layer in (part for part in stage.blocks.modules() if isinstance(part, nn.Conv2d)):
                around += _conv_macs(layer, sides[stage])
            if merging is not None:
                smaller = sides[stage] // merging.conv2.c.stride[0]
                around += _conv_macs(merging.conv1.c, sides[stage])
                around += _conv_macs(merging.conv2.c, smaller) + _conv_macs(merging.conv3.c, smaller)
        last = sides[encoder.layers[-1]]
        return around, _conv_macs(encoder.neck[0], last) + _conv_macs(encoder.neck[2], last)

    def build(self, settings: Mapping[str, Any]) -> Sam:
        shape = TinyVitShape.of(dict(settings), "the shape")
        shape.check()
        encoder = TinyVit(shape)
        # the stem is cut by no plan: left as it is by adaptation and recovery, it is the same in all models of a family
        # tree, and what it makes of an image can be kept
        for part in (encoder.patch_embed, encoder.layers[0]):
            part.requires_grad_(False)
        return sam_around(encoder, shape, shape.sides[-1])

    def settings(self, model: nn.Module) -> Mapping[str, Any]:
        return _shape_of(self, model).values()

    def load(self, state: Mapping[str, Tensor], image_size: int | None = None) -> Sam | None:
        sizes = {name: tuple(value.shape) for name, value in state.items()}
        if not is_tiny_vit(sizes):
            return None
        shape = read_tiny_vit(sizes)
        settings = shape.values() | ({} if image_size is None else {"image_size": image_size})
        model = self.build(settings)
        _fill(model, state, kind_of_tiny_vit(shape))
        return model


def _stem(encoder: Any) -> tuple[int, int]:
    """Kernel and stride of the first convolution."""
    convolution = encoder.patch_embed.seq[0].c
    return int(convolution.kernel_size[0]), int(convolution.stride[0])


def _conv_macs(layer: nn.Conv2d, side: int) -> int:
    """Of a convolution with an output of side x side."""
    return side**2 * layer.weight.numel()


def _fill(model: Sam, state: Mapping[str, Tensor], kind: str) -> None:
    """Load weights; what is missing or too much is listed."""
    expected = model.state_dict()
    wanted = {name: value for name, value in expected.items() if not name.endswith(_DERIVED) or name in state}
    given = {
        name: value
        for name, value in state.items()
        if not name.startswith(_UNUSED) and (name in wanted or not name.endswith(_DERIVED))
    }
    if lines := differences(wanted, given):
        raise CheckpointError(f"does not fit {kind}: {summary(lines)}; is it another model, or a pruned one?")
    model.load_state_dict(given, strict=False)


def _shape_of(family: TinyVitFamily, model: nn.Module) -> TinyVitShape:
    """The shape of the whole model, before any pruning: widths and the dimension of a head survive it."""
    if not isinstance(model, Sam):
        raise MedcorePruneError(f"expected a whole Sam (encoder, prompts, decoder), got {type(model).__name__}")
    encoder: Any = model.image_encoder
    decoder: Any = model.mask_decoder
    layer = decoder.transformer.layers[0]
    stages: Sequence[Any] = list(encoder.layers)[1:]
    attention = [stage.blocks[0].attn for stage in stages]
    widths = [encoder.patch_embed.seq[2].c.out_channels, *(each.qkv.in_features for each in attention)]
    return TinyVitShape(
        image_size=encoder.img_size,
        stem_kernel=_stem(encoder)[0],
        widths=tuple(widths),
        depths=tuple(len(stage.blocks) for stage in encoder.layers),
        heads=(0, *(each.qkv.in_features // each.key_dim for each in attention)),
        windows=(0, *(stage.blocks[0].window_size for stage in stages)),
        out_channels=encoder.neck[0].out_channels,
        decoder_heads=int(layer.self_attn.num_heads),
        decoder_mlp_dim=int(layer.mlp.lin1.out_features),
        iou_hidden_dim=int(decoder.iou_prediction_head.layers[0].out_features),
    )
