"""Weights of Hugging Face's `SamModel`, MedSAM's there among them, by the names that segment-anything gives them.

Both classes have the same parameters; `transformers` names them otherwise and keeps the positions of prompts twice.
"""

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TypeAlias

import torch
from torch import Tensor

from .._support.errors import CheckpointError

_FIRST = "vision_encoder.patch_embed.projection.weight"
_POSITIONS = "shared_image_embedding.positional_embedding"
_SECOND_POSITIONS = "prompt_encoder.shared_embedding.positional_embedding"
_POSITIONS_HERE = "prompt_encoder.pe_layer.positional_encoding_gaussian_matrix"
_MLP = r"(?:output_hypernetworks_mlps\.\d+|iou_prediction_head)\."
_Rule: TypeAlias = tuple[str, str, str]
# a pattern of what stands before, the words of transformers, those of segment-anything; read downwards on the way here
# and upwards on the way back, each of a name as the rules before left it
_RULES: tuple[_Rule, ...] = (
    ("^", _POSITIONS, _POSITIONS_HERE),
    ("^", "vision_encoder.", "image_encoder."),
    (r"^image_encoder\.", "layers.", "blocks."),
    (r"patch_embed\.", "projection.", "proj."),
    (r"neck\.", "conv1.", "0."),
    (r"neck\.", "layer_norm1.", "1."),
    (r"neck\.", "conv2.", "2."),
    (r"neck\.", "layer_norm2.", "3."),
    (r"^prompt_encoder\.", "mask_embed.conv1.", "mask_downscaling.0."),
    (r"^prompt_encoder\.", "mask_embed.layer_norm1.", "mask_downscaling.1."),
    (r"^prompt_encoder\.", "mask_embed.conv2.", "mask_downscaling.3."),
    (r"^prompt_encoder\.", "mask_embed.layer_norm2.", "mask_downscaling.4."),
    (r"^prompt_encoder\.", "mask_embed.conv3.", "mask_downscaling.6."),
    (r"^prompt_encoder\.", "point_embed.", "point_embeddings."),
    (r"^mask_decoder\.", "upscale_conv1.", "output_upscaling.0."),
    (r"^mask_decoder\.", "upscale_layer_norm.", "output_upscaling.1."),
    (r"^mask_decoder\.", "upscale_conv2.", "output_upscaling.3."),
    (_MLP, "layers.0.", "layers.1."),
    (_MLP, "proj_in.", "layers.0."),
    (_MLP, "proj_out.", "layers.2."),
    *((r"\.", f"layer_norm{which}.", f"norm{which}.") for which in (1, 2, 3, 4, "_final_attn")),
)
FILES = ("model.safetensors", "pytorch_model.bin")
"""What a folder that `save_pretrained` wrote holds, in the order in which it is looked for."""


def is_transformers(state: Mapping[str, Tensor]) -> bool:
    """Whether tensors are those of a `SamModel`, by the name of the first."""
    return _FIRST in state


def segment_anything_name(name: str) -> str:
    """The name that segment-anything gives a parameter of a `SamModel`."""
    if name == _SECOND_POSITIONS:
        return _POSITIONS_HERE
    return _renamed(name, _RULES)


def transformers_name(name: str) -> str:
    """The name that `SamModel` gives a parameter of segment-anything's `Sam`.

    Raises:
        CheckpointError: It has none, as what was added to a model.
    """
    new = _renamed(name, [(before, ours, theirs) for before, theirs, ours in reversed(_RULES)])
    if segment_anything_name(new) != name:
        raise CheckpointError(f"transformers has no name for {name}: remove what was added to the model first")
    return new


def _renamed(name: str, rules: Iterable[_Rule]) -> str:
    for before, old, new in rules:
        name = re.sub(f"({before}){re.escape(old)}", rf"\g<1>{new}", name)
    return name


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
