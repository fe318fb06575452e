"""Plain vision transformers of Hugging Face's `transformers` with layers of their own for q, k and v: `ViTModel`.

Also inside `ViTForImageClassification` and its like. Nothing is imported here: a model can only be of these classes
once `transformers` has been.
"""

import sys
from typing import Any

from torch import Tensor, nn

from .._support.errors import MedcorePruneError
from .family import Block, Geometry, block_of, no_decoder

_VIT_MODULE = "transformers.models.vit.modeling_vit"
_VIT_LAYERS = {
    "q": "attention.q_proj",
    "k": "attention.k_proj",
    "v": "attention.v_proj",
    "proj": "attention.o_proj",
    "lin1": "mlp.fc1",
    "lin2": "mlp.fc2",
}


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
