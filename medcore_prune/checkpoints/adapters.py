"""Checkpoints with more than a SAM: LoRA is merged where the file says how, all else is refused by name.

W' = W + alpha / r * B A,   A (r, in), B (out, r)
"""

import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from .._support.errors import CheckpointError
from ..models.sam_shape import is_hq

_LORA_A = re.compile(r"^(?P<layer>.+)\.lora_A(?P<rest>(?:\.\w+)?(?:\.weight)?)$")
_ADAPTER = re.compile(r"(?i)lora|adapter|prompt_generator|magnitude_vector|\.linear_[ab]_|\.w_[ab]_")
_BASES = ("base_layer.", "")
_ALPHAS = ("lora_alpha", "alpha")
_HQ = re.compile(
    r"^mask_decoder\.(hf_|hq_|compress_vit|embedding_encoder|embedding_maskfeature|encoder_conv|mask_conv)"
)
_TOKENS = "mask_decoder.mask_tokens.weight"
_MASKS = 4


def merged(state: Mapping[str, Tensor], beside: Mapping[str, Any], path: Path) -> dict[str, Tensor]:
    """Add LoRA's products to the weights of their layers; what is beside a layer otherwise is refused.

    `beside` are the plain values that were saved with the weights, `lora_alpha` among them.
    """
    found, left = dict(state), dict(state)
    for name, first in state.items():
        if not (match := _LORA_A.match(name)):
            continue
        layer, other = match["layer"], f"{match['layer']}.lora_B{match['rest']}"
        base = next((f"{layer}.{b}weight" for b in _BASES if f"{layer}.{b}weight" in state), None)
        if base is None or other not in state or not _fits(state[base], first, state[other]):
            raise CheckpointError(
                f"{path}: {name} is LoRA's, without the weight of {layer} that its product would be added to: merge it "
                "where it was trained (peft: merge_and_unload) and save the whole model"
            )
        if f"{layer}.weight" in found and found[f"{layer}.weight"] is not state.get(f"{layer}.weight"):
            raise CheckpointError(f"{path}: {layer} has several adapters, {name} among them: merge those that count")
        scale = _alpha(layer, name, state, beside, path) / len(first)
        weight = state[base].double() + scale * state[other].double() @ first.double()
        found[f"{layer}.weight"] = weight.to(state[base].dtype)
        for used in (name, other, *(f"{layer}.{alpha}" for alpha in _ALPHAS)):
            left.pop(used, None)
    return {_plain(name): found.get(_plain(name), value) for name, value in left.items()}


def _plain(name: str) -> str:
    return name.replace(".base_layer.", ".")


def _fits(weight: Tensor, first: Tensor, second: Tensor) -> bool:
    shapes = (weight.shape, first.shape, second.shape)
    if any(len(shape) != 2 for shape in shapes):
        return False
    return (len(second), first.shape[1]) == tuple(weight.shape) and second.shape[1] == len(first) > 0


def _alpha(layer: str, name: str, state: Mapping[str, Tensor], beside: Mapping[str, Any], path: Path) -> float:
    """The alpha of a layer: a tensor of its own, or one number for all in what was saved beside the weights."""
    own = [float(state[key]) for each in _ALPHAS if (key := f"{layer}.{each}") in state and state[key].numel() == 1]
    groups = [beside, *(value for value in beside.values() if isinstance(value, Mapping))]
    if any(group.get("use_rslora") for group in groups):
        raise CheckpointError(f"{path}: {name} is scaled as rsLoRA: merge it where it was trained (merge_and_unload)")
    shared = [group[each] for group in groups for each in _ALPHAS[:1] if isinstance(group.get(each), int | float)]
    if len(values := {*own} or {*map(float, shared)}) != 1 or not all(map(math.isfinite, values)):
        raise CheckpointError(
            f"{path}: {name} is LoRA's, and the file does not say one alpha for it, without which it cannot be merged: "
            "merge it where it was trained (peft: merge_and_unload), or save {'model': ..., 'lora_alpha': ...}"
        )
    return values.pop()


def refuse_more(state: Mapping[str, Tensor], path: Path) -> None:
    """Refuse adapters and decoders that a SAM has not, by a name that is there."""
    hq = next((name for name in state if _HQ.match(name)), None)
    if hq and not is_hq({name: tuple(value.shape) for name, value in state.items()}):
        raise CheckpointError(
            f"{path}: {hq} is of SAM-HQ in a form that is not read, such as Light HQ-SAM, or transformers' SamHQModel: "
            "give a published sam_hq_vit_b.pth, _l or _h, or the SAM that it was trained from"
        )
    if adapter := next((name for name in state if _ADAPTER.search(name)), None):
        raise CheckpointError(
            f"{path}: {adapter} is of an adapter beside SAM's own layers, which a cut would leave whole: merge it into "
            "the weights where it was trained and save the whole model, or give the checkpoint without it"
        )
    if _TOKENS in state and len(state[_TOKENS]) != _MASKS:
        raise CheckpointError(
            f"{path}: {_TOKENS} has {len(state[_TOKENS])} mask tokens, SAM's decoder {_MASKS}, so that each stands for "
            "something else (a class, as in SAMed): give a SAM of one mask a prompt, or load the encoder's tensors "
            "into one, model.image_encoder.load_state_dict"
        )


def refuse_encoder_alone(state: Mapping[str, Tensor], path: Path) -> None:
    """Refuse an image encoder without the rest of its SAM, and say how to put it into one."""
    bare = next((n for n in state if n in ("patch_embed.proj.weight", "patch_embed.seq.0.c.weight")), None)
    inside = next((n for n in state if n.startswith("image_encoder.")), None)
    if (first := bare or inside) and not any(n.startswith("mask_decoder.") for n in state):
        raise CheckpointError(
            f"{path}: it holds an image encoder alone, {first} and no mask_decoder: load the whole model that it is "
            "of, and its weights into that, model.image_encoder.load_state_dict(...)"
        )
