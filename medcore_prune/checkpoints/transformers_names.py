"""Weights of Hugging Face's `SamModel`, MedSAM's there among them, by the names that segment-anything gives them.

Both classes have the same parameters; `transformers` names them otherwise and keeps the positions of prompts twice.
"""

import re
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from .._support.errors import CheckpointError

_FIRST = "vision_encoder.patch_embed.projection.weight"
_POSITIONS = "shared_image_embedding.positional_embedding"
_MLP = r"(output_hypernetworks_mlps\.\d+|iou_prediction_head)\."
# in this order: a rule reads what those before it wrote
_RULES = [
    (rf"^{re.escape(_POSITIONS)}$", "prompt_encoder.shared_embedding.positional_embedding"),
    (r"^vision_encoder\.layers\.", "image_encoder.blocks."),
    (r"^vision_encoder\.", "image_encoder."),
    (r"patch_embed\.projection\.", "patch_embed.proj."),
    (r"neck\.conv1\.", "neck.0."),
    (r"neck\.layer_norm1\.", "neck.1."),
    (r"neck\.conv2\.", "neck.2."),
    (r"neck\.layer_norm2\.", "neck.3."),
    (r"mask_embed\.conv1\.", "mask_downscaling.0."),
    (r"mask_embed\.layer_norm1\.", "mask_downscaling.1."),
    (r"mask_embed\.conv2\.", "mask_downscaling.3."),
    (r"mask_embed\.layer_norm2\.", "mask_downscaling.4."),
    (r"mask_embed\.conv3\.", "mask_downscaling.6."),
    (r"^prompt_encoder\.point_embed\.", "prompt_encoder.point_embeddings."),
    (r"shared_embedding\.positional_embedding$", "pe_layer.positional_encoding_gaussian_matrix"),
    (r"upscale_conv1\.", "output_upscaling.0."),
    (r"upscale_layer_norm\.", "output_upscaling.1."),
    (r"upscale_conv2\.", "output_upscaling.3."),
    (rf"{_MLP}layers\.0\.", r"\1.layers.1."),
    (rf"{_MLP}proj_in\.", r"\1.layers.0."),
    (rf"{_MLP}proj_out\.", r"\1.layers.2."),
    (r"layer_norm(\d|_final_attn)\.", r"norm\1."),
]
# the way back, each of a name as the rules before it left it
_BACK = [
    (r"^image_encoder\.blocks\.", "vision_encoder.layers."),
    (r"^image_encoder\.", "vision_encoder."),
    (r"patch_embed\.proj\.", "patch_embed.projection."),
    (r"neck\.0\.", "neck.conv1."),
    (r"neck\.1\.", "neck.layer_norm1."),
    (r"neck\.2\.", "neck.conv2."),
    (r"neck\.3\.", "neck.layer_norm2."),
    (r"mask_downscaling\.0\.", "mask_embed.conv1."),
    (r"mask_downscaling\.1\.", "mask_embed.layer_norm1."),
    (r"mask_downscaling\.3\.", "mask_embed.conv2."),
    (r"mask_downscaling\.4\.", "mask_embed.layer_norm2."),
    (r"mask_downscaling\.6\.", "mask_embed.conv3."),
    (r"^prompt_encoder\.point_embeddings\.", "prompt_encoder.point_embed."),
    (r"^prompt_encoder\.pe_layer\.positional_encoding_gaussian_matrix$", _POSITIONS),
    (r"output_upscaling\.0\.", "upscale_conv1."),
    (r"output_upscaling\.1\.", "upscale_layer_norm."),
    (r"output_upscaling\.3\.", "upscale_conv2."),
    (rf"{_MLP}layers\.0\.", r"\1.proj_in."),
    (rf"{_MLP}layers\.1\.", r"\1.layers.0."),
    (rf"{_MLP}layers\.2\.", r"\1.proj_out."),
    (r"(?<!layer_)norm(\d|_final_attn)\.", r"layer_norm\1."),
]
FILES = ("model.safetensors", "pytorch_model.bin")
"""What a folder that `save_pretrained` wrote holds, in the order in which it is looked for."""


def is_transformers(state: Mapping[str, Tensor]) -> bool:
    """Whether tensors are those of a `SamModel`, by the name of the first."""
    return _FIRST in state


def segment_anything_name(name: str) -> str:
    """The name that segment-anything gives a parameter of a `SamModel`."""
    for pattern, replacement in _RULES:
        name = re.sub(pattern, replacement, name)
    return name


def transformers_name(name: str) -> str:
    """The name that `SamModel` gives a parameter of segment-anything's `Sam`.

    Raises:
        CheckpointError: It has none, as what was added to a model.
    """
    new = name
    for pattern, replacement in _BACK:
        new = re.sub(pattern, replacement, new)
    if segment_anything_name(new) != name:
        raise CheckpointError(f"transformers has no name for {name}: remove what was added to the model first")
    return new


def from_transformers(state: Mapping[str, Tensor], path: Path) -> dict[str, Tensor]:
    """Name a `SamModel`'s weights as segment-anything does; positions of prompts that disagree are refused."""
    converted: dict[str, Tensor] = {}
    for name, value in state.items():
        new = segment_anything_name(name)
        if new in converted and not torch.equal(converted[new], value):
            raise CheckpointError(
                f"{path}: {name} and another tensor both are SAM's {new}, and differ: save the model anew with "
                "save_pretrained, in which they are one"
            )
        converted[new] = value
    return converted


def file_in(folder: Path) -> Path | None:
    """The file with all weights in a folder of `transformers`; None where there is none.

    Raises:
        CheckpointError: The weights are in several files.
    """
    found = next((folder / name for name in FILES if (folder / name).is_file()), None)
    if found is None and (parts := sorted(folder.glob("*.index.json"))):
        raise CheckpointError(
            f"{folder}: its weights are in several files ({parts[0].name}): save them in one, "
            'save_pretrained(folder, max_shard_size="100GB")'
        )
    return found
