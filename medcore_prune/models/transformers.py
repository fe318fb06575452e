"""SAM as Hugging Face's `transformers` has it: `SamModel`, `SamVisionModel` and their `SamVisionEncoder`.

MedSAM is published in this form too. Nothing is imported here: a model can only be of these classes once `transformers`
has been.
"""

import sys
from typing import Any

from torch import Tensor, nn

from .._support.errors import MedcorePruneError
from .families import register_family
from .family import Block, Geometry, block_of, no_decoder

_SAM_MODULE = "transformers.models.sam.modeling_sam"
_PREFIXES = {"SamModel": "vision_encoder.", "SamVisionModel": "vision_encoder.", "SamVisionEncoder": ""}
_SAM_LAYERS = {"qkv": "attn.qkv", "proj": "attn.proj", "lin1": "mlp.lin1", "lin2": "mlp.lin2"}


def _sam_prefix(model: nn.Module) -> str | None:
    """Where the encoder stands in a model of these classes; None for others."""
    module = sys.modules.get(_SAM_MODULE)
    if module is None:
        return None
    found = (prefix for name, prefix in _PREFIXES.items() if isinstance(model, getattr(module, name)))
    return next(found, None)


@register_family
class TransformersSamFamily:
    """Shows the blocks of `SamVisionEncoder`."""

    name = "transformers SAM"
    attention_gives_weights = True

    def matches(self, model: nn.Module) -> bool:
        return _sam_prefix(model) is not None

    def encoder(self, model: nn.Module) -> nn.Module:
        return model.get_submodule((_sam_prefix(model) or "").rstrip("."))

    def blocks(self, model: nn.Module) -> list[Block]:
        encoder: Any = self.encoder(model)
        return [self._block(i, layer, f"{_sam_prefix(model)}layers.{i}") for i, layer in enumerate(encoder.layers)]

    def _block(self, index: int, layer: Any, name: str) -> Block:
        return block_of(
            layer, index, name, _SAM_LAYERS, layer.attn, int(layer.attn.num_attention_heads), int(layer.window_size)
        )

    def geometry(self, model: nn.Module) -> Geometry:
        config: Any = self.encoder(model).config
        return Geometry(config.image_size, config.patch_size, config.hidden_size, config.output_channels)

    def set_num_heads(self, block: Block, num_heads: int) -> None:
        attention: Any = block.attention
        attention.num_attention_heads = num_heads

    def embed(self, model: nn.Module, images: Tensor) -> Tensor:
        features: Tensor = self.encoder(model)(images)[0]
        return features

    def decode(self, model: nn.Module, embeddings: Tensor, boxes: Tensor) -> Tensor:
        whole: Any = model
        if not hasattr(whole, "mask_decoder"):
            raise no_decoder(model)
        sparse, dense = whole.prompt_encoder(None, None, boxes[:, None], None)
        position = whole.get_image_wide_positional_embeddings().to(embeddings)
        logits: Tensor = whole.mask_decoder(
            image_embeddings=embeddings,
            image_positional_embeddings=position.expand(boxes.shape[0], -1, -1, -1),
            sparse_prompt_embeddings=sparse,
            dense_prompt_embeddings=dense,
            multimask_output=False,
        )[0]
        return logits[:, 0]


_VIT_MODULE = "transformers.models.vit.modeling_vit"
_VIT_LAYERS = {
    "q": "attention.q_proj",
    "k": "attention.k_proj",
    "v": "attention.v_proj",
    "proj": "attention.o_proj",
    "lin1": "mlp.fc1",
    "lin2": "mlp.fc2",
}


@register_family
class TransformersVitFamily:
    """Shows the blocks of `ViTModel`."""

    name = "transformers ViT"

    def matches(self, model: nn.Module) -> bool:
        module = sys.modules.get(_VIT_MODULE)
        return module is not None and isinstance(model, module.ViTPreTrainedModel)

    def encoder(self, model: nn.Module) -> nn.Module:
        return model.get_submodule(_vit_prefix(model).rstrip("."))

    def blocks(self, model: nn.Module) -> list[Block]:
        encoder: Any = self.encoder(model)
        return [self._block(i, layer, f"{_vit_prefix(model)}layers.{i}") for i, layer in enumerate(encoder.layers)]

    def _block(self, index: int, layer: Any, name: str) -> Block:
        return block_of(layer, index, name, _VIT_LAYERS, layer.attention, int(layer.attention.num_attention_heads), 0)

    def geometry(self, model: nn.Module) -> Geometry:
        config: Any = self.encoder(model).config
        if not isinstance(config.image_size, int) or not isinstance(config.patch_size, int):
            raise MedcorePruneError(
                f"an input of {config.image_size} pixels in patches of {config.patch_size}: expected squares"
            )
        return Geometry(config.image_size, config.patch_size, config.hidden_size, 0, prefix_tokens=1)

    def set_num_heads(self, block: Block, num_heads: int) -> None:
        attention: Any = block.attention
        attention.num_attention_heads = num_heads

    def embed(self, model: nn.Module, images: Tensor) -> Tensor:
        features: Tensor = self.encoder(model)(images)[0]
        return features

    def decode(self, model: nn.Module, embeddings: Tensor, boxes: Tensor) -> Tensor:
        raise no_decoder(model)


def _vit_prefix(model: nn.Module) -> str:
    """Where the `ViTModel` stands in a model with a head."""
    return "" if hasattr(model, "layers") else "vit."
