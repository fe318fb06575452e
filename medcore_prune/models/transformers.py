"""SAM as Hugging Face's `transformers` has it: `SamModel`, `SamVisionModel` and their `SamVisionEncoder`.

MedSAM is published in this form too. Nothing is imported here: a model can only be of these classes once `transformers`
has been.
"""

import sys
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar

from torch import Tensor, nn

from .._support.errors import MedcorePruneError
from .families import register_family
from .family import SEPARATE, Block, Geometry, block_of, no_decoder

_SAM_MODULE = "transformers.models.sam.modeling_sam"
_PREFIXES = {"SamModel": "vision_encoder.", "SamVisionModel": "vision_encoder.", "SamVisionEncoder": ""}
_VIT_MODULE = "transformers.models.vit.modeling_vit"


class _WithLayers(ABC):
    """What both families have in common: an encoder with `layers`, and attention with `num_attention_heads`."""

    attention: str
    paths: ClassVar[Mapping[str, str]]

    @abstractmethod
    def _prefix(self, model: nn.Module) -> str | None:
        """Where the encoder stands in a model of these classes; None for others."""

    def matches(self, model: nn.Module) -> bool:
        return self._prefix(model) is not None

    def encoder(self, model: nn.Module) -> nn.Module:
        return model.get_submodule((self._prefix(model) or "").rstrip("."))

    def blocks(self, model: nn.Module) -> list[Block]:
        encoder: Any = self.encoder(model)
        return [self._block(i, layer, f"{self._prefix(model)}layers.{i}") for i, layer in enumerate(encoder.layers)]

    def _block(self, index: int, layer: Any, name: str) -> Block:
        attention = getattr(layer, self.attention)
        window = int(getattr(layer, "window_size", 0))
        return block_of(layer, index, name, self.paths, attention, int(attention.num_attention_heads), window)

    def set_num_heads(self, block: Block, num_heads: int) -> None:
        attention: Any = block.attention
        attention.num_attention_heads = num_heads

    def embed(self, model: nn.Module, images: Tensor) -> Tensor:
        features: Tensor = self.encoder(model)(images)[0]
        return features


@register_family
class TransformersSamFamily(_WithLayers):
    """Shows the blocks of `SamVisionEncoder`."""

    name = "transformers SAM"
    attention_gives_weights = True
    attention = "attn"
    paths: ClassVar = {"qkv": "attn.qkv", "proj": "attn.proj", "lin1": "mlp.lin1", "lin2": "mlp.lin2"}

    def _prefix(self, model: nn.Module) -> str | None:
        module = sys.modules.get(_SAM_MODULE)
        if module is None:
            return None
        found = (prefix for name, prefix in _PREFIXES.items() if isinstance(model, getattr(module, name)))
        return next(found, None)

    def geometry(self, model: nn.Module) -> Geometry:
        config: Any = self.encoder(model).config
        return Geometry(config.image_size, config.patch_size, config.hidden_size, config.output_channels)

    def decode(self, model: nn.Module, embeddings: Tensor, boxes: Tensor) -> Tensor:
        return self.score(model, embeddings, boxes)[0]

    def score(self, model: nn.Module, embeddings: Tensor, boxes: Tensor) -> tuple[Tensor, Tensor]:
        whole: Any = model
        if not hasattr(whole, "mask_decoder"):
            raise no_decoder(model)
        sparse, dense = whole.prompt_encoder(None, None, boxes[:, None], None)
        position = whole.get_image_wide_positional_embeddings().to(embeddings)
        logits, scores = whole.mask_decoder(
            image_embeddings=embeddings,
            image_positional_embeddings=position.expand(boxes.shape[0], -1, -1, -1),
            sparse_prompt_embeddings=sparse,
            dense_prompt_embeddings=dense,
            multimask_output=False,
        )[:2]
        return logits[:, 0], scores[:, 0, 0]


@register_family
class TransformersVitFamily(_WithLayers):
    """Shows the blocks of `ViTModel`, alone or in a model with a head."""

    name = "transformers ViT"
    attention = "attention"
    paths: ClassVar = {
        **{role: f"attention.{role}_proj" for role in SEPARATE},
        "proj": "attention.o_proj",
        "lin1": "mlp.fc1",
        "lin2": "mlp.fc2",
    }

    def _prefix(self, model: nn.Module) -> str | None:
        module = sys.modules.get(_VIT_MODULE)
        if module is None or not isinstance(model, module.ViTPreTrainedModel):
            return None
        return "" if hasattr(model, "layers") else "vit."

    def geometry(self, model: nn.Module) -> Geometry:
        config: Any = self.encoder(model).config
        if not isinstance(config.image_size, int) or not isinstance(config.patch_size, int):
            raise MedcorePruneError(
                f"an input of {config.image_size} pixels in patches of {config.patch_size}: expected squares"
            )
        return Geometry(config.image_size, config.patch_size, config.hidden_size, 0, prefix_tokens=1)

    def decode(self, model: nn.Module, embeddings: Tensor, boxes: Tensor) -> Tensor:
        raise no_decoder(model)
