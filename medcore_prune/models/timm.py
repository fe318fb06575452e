"""Plain vision transformers of `timm` with one fused `qkv`: `vit_*`, `deit_*`, DINO and DINOv2, and `samvit_*`.

Nothing is imported here: a model can only be of these classes once `timm` has been.
"""

import sys
from typing import Any

from torch import Tensor, nn

from .._support.errors import MedcorePruneError
from .families import register_family
from .family import Block, Geometry, block_of, no_decoder

_CLASSES = {
    "timm.models.vision_transformer": "VisionTransformer",
    "timm.models.vision_transformer_sam": "VisionTransformerSAM",
}
_LAYER_PATHS = {"qkv": "attn.qkv", "proj": "attn.proj", "lin1": "mlp.fc1", "lin2": "mlp.fc2"}
_WANTED = "only blocks of qkv, proj, fc1 and fc2 can be pruned"
# parts that tie all heads, or all neurons, to each other or to a third layer
_COUPLING = {"attn.norm": "scales all heads together", "attn.gate": "gates", "mlp.norm": "scales all neurons together"}


@register_family
class TimmFamily:
    """Shows the blocks of timm's `VisionTransformer` and `VisionTransformerSAM`."""

    name = "timm ViT"

    def matches(self, model: nn.Module) -> bool:
        loaded = ((sys.modules.get(module), name) for module, name in _CLASSES.items())
        return any(module is not None and isinstance(model, getattr(module, name)) for module, name in loaded)

    def encoder(self, model: nn.Module) -> nn.Module:
        return model

    def blocks(self, model: nn.Module) -> list[Block]:
        encoder: Any = model
        return [self._block(index, block, f"blocks.{index}") for index, block in enumerate(encoder.blocks)]

    def _block(self, index: int, block: Any, name: str) -> Block:
        missing = [path for path in _LAYER_PATHS.values() if _found(block, path) is None]
        if missing:
            raise MedcorePruneError(f"{name} has no {missing[0]}: {_WANTED}")
        heads, window = int(block.attn.num_heads), int(getattr(block, "window_size", 0))
        shown = block_of(block, index, name, _LAYER_PATHS, block.attn, heads, window)
        _require_uncoupled(shown, block)
        return shown

    def geometry(self, model: nn.Module) -> Geometry:
        encoder: Any = model
        patches = encoder.patch_embed
        (height, width), (patch, other) = patches.img_size, patches.patch_size
        if height != width or patch != other:
            raise MedcorePruneError(
                f"an input of {height} x {width} pixels in patches of {patch} x {other}: expected squares"
            )
        neck: Any = getattr(encoder, "neck", None)
        channels = getattr(neck[0], "out_channels", 0) if isinstance(neck, nn.Sequential) else 0
        return Geometry(height, patch, encoder.embed_dim, channels, int(getattr(encoder, "num_prefix_tokens", 0)))

    def set_num_heads(self, block: Block, num_heads: int) -> None:
        attention: Any = block.attention
        attention.num_heads = num_heads
        if hasattr(attention, "attn_dim"):
            attention.attn_dim = num_heads * attention.head_dim

    def embed(self, model: nn.Module, images: Tensor) -> Tensor:
        encoder: Any = model
        features: Tensor = encoder.forward_features(images)
        return features

    def decode(self, model: nn.Module, embeddings: Tensor, boxes: Tensor) -> Tensor:
        raise no_decoder(model)


def _require_uncoupled(shown: Block, block: nn.Module) -> None:
    """Refuse blocks in which a head or a neuron is more than rows of one layer and columns of the next."""
    if shown.layers["lin1"].out_features != shown.layers["lin2"].in_features:
        raise MedcorePruneError(f"{shown.name} has a gated MLP: {_WANTED}")
    for path, why in _COUPLING.items():
        if not isinstance(_found(block, path), nn.Identity | None):
            raise MedcorePruneError(f"{shown.name}.{path} {why}: blocks that have it cannot be pruned")


def _found(block: nn.Module, path: str) -> nn.Module | None:
    found: Any = block
    for part in path.split("."):
        found = getattr(found, part, None)
    return found
