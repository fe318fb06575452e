"""A SAM as a folder that `transformers.SamModel.from_pretrained` reads: `config.json` and `model.safetensors`.

A configuration of `transformers` has one number of neurons for all blocks, and heads as long as the width divided by
their number. So a cut of as many neurons in every block can be written, and a cut of heads cannot: heads that are left
would have to be longer, or filled up with zeros again, and neither is the smaller model.
"""

import json
import os
from collections import Counter
from pathlib import Path
from typing import Any

from safetensors.torch import save_file
from torch import Tensor, nn

from .._support.errors import CheckpointError
from .._support.files import atomic_write, together, write_text_atomic
from .._support.torch_file import unshared
from ..models.calls.altered import refuse_hooked
from ..models.calls.call import on_models
from ..models.families import blocks_of, family_of
from ..models.sam_shape import SamShape
from ..models.segment_anything import build_sam
from .pruned import SAM
from .transformers_names import transformers_name

CONFIG, WEIGHTS = "config.json", "model.safetensors"


class NotUniformError(CheckpointError):
    """A cut that a configuration of `transformers` has no words for."""


@on_models("model", refuse=refuse_hooked)
def save_transformers(model: nn.Module, folder: str | os.PathLike[str]) -> Path:
    """Write a SAM for plain `transformers`: `SamModel.from_pretrained(folder)` gives the same outputs.

    Images are prepared as MedSAM's, made square and scaled to [0, 1], and handed over as `pixel_values`; `SamProcessor`
    normalises them another way, under which a MedSAM gives worse masks.

    Args:
        model: A whole `Sam` with all its heads and as many neurons in every block as in any other, such as a plan of
            `regular_level("h0_m70")` leaves.
        folder: Made where it is not there; files in it are replaced.

    Returns:
        The folder.

    Raises:
        CheckpointError: Another family, heads that were cut, blocks of unequal neurons, or weights that
            `transformers` has no name for.
        SurgeryError: A part of the model was compiled, patched or hooked.
    """
    config = _config(model)
    _check_names(model)
    weights = {transformers_name(name): value for name, value in _state(model).items()}
    place = Path(folder)
    place.mkdir(parents=True, exist_ok=True)
    with together():
        write_text_atomic(place / CONFIG, json.dumps(config, indent=2) + "\n")
        with atomic_write(place / WEIGHTS) as temporary:
            # by this entry transformers knows whose tensors they are
            save_file(weights, temporary, metadata={"format": "pt"})
    return place


def _state(model: nn.Module) -> dict[str, Tensor]:
    held = {name: value.detach().cpu().contiguous() for name, value in model.state_dict().items()}
    # how segment-anything normalises is no weight, and of no use to transformers
    return unshared({name: value for name, value in held.items() if name not in ("pixel_mean", "pixel_std")})


def _config(model: nn.Module) -> dict[str, Any]:
    family: Any = family_of(model)
    if family.name != SAM:
        raise CheckpointError(
            f"a folder for transformers is of SAM's own classes, this model is of the family {family.name}: save it "
            "with medcore_prune.save, or export it as ONNX"
        )
    shape = SamShape(**family.settings(model))
    neurons = _neurons(model, shape)
    _check_tables(model, shape)
    shared = {"image_size": shape.image_size, "patch_size": shape.patch_size}
    return {
        "model_type": "sam",
        "architectures": ["SamModel"],
        "vision_config": {
            **shared,
            "model_type": "sam_vision_model",
            "hidden_size": shape.embed_dim,
            "num_hidden_layers": shape.depth,
            "num_attention_heads": shape.num_heads,
            "output_channels": shape.out_channels,
            "window_size": shape.window,
            "global_attn_indexes": list(shape.global_blocks),
            "num_pos_feats": shape.out_channels // 2,
            "mlp_dim": neurons,
            "mlp_ratio": neurons / shape.embed_dim,
        },
        "prompt_encoder_config": {
            **shared,
            "model_type": "sam_prompt_encoder",
            "hidden_size": shape.out_channels,
        },
        "mask_decoder_config": {
            "model_type": "sam_mask_decoder",
            "hidden_size": shape.out_channels,
            "num_attention_heads": shape.decoder_heads,
            "mlp_dim": shape.decoder_mlp_dim,
            "iou_head_hidden_dim": shape.iou_hidden_dim,
        },
    }


def _check_names(model: nn.Module) -> None:
    """Refuse a model with more or fewer tensors than a SAM has, which transformers would pass over or make up."""
    family: Any = family_of(model)
    whole = build_sam(SamShape(**family.settings(model)), "meta").state_dict()
    if other := sorted(set(whole) ^ set(model.state_dict())):
        raise CheckpointError(
            f"a SAM has other tensors ({len(other)} differ, first {other[0]}): transformers would pass over or make up "
            "what it does not know"
        )


def _neurons(model: nn.Module, shape: SamShape) -> int:
    """Neurons of every block; what a configuration cannot say is refused."""
    blocks = blocks_of(model)
    if cut := [block for block in blocks if block.num_heads != shape.num_heads]:
        raise NotUniformError(
            f"transformers has no word for a cut of heads: {len(cut)} of {len(blocks)} blocks have fewer than "
            f"{shape.num_heads}, first block {cut[0].index} with {cut[0].num_heads}; cut neurons alone, "
            "uniformly (mp.regular_level of h0_m70), or export as ONNX"
        )
    counts = Counter(block.neurons for block in blocks)
    if len(counts) > 1:
        told = ", ".join(f"{count} in {of}" for count, of in sorted(counts.items()))
        raise NotUniformError(
            f"transformers has one number of neurons for all blocks, here there are {told} blocks: cut the same "
            "everywhere, uniformly (mp.regular_level of h0_m70), or export as ONNX"
        )
    return next(iter(counts))


def _check_tables(model: nn.Module, shape: SamShape) -> None:
    """Refuse relative positions that are for another grid, which transformers cannot read."""
    for block in blocks_of(model):
        attention: Any = block.attention
        side = block.window or shape.image_size // shape.patch_size
        if len(attention.rel_pos_h) != 2 * side - 1 or len(attention.rel_pos_w) != 2 * side - 1:
            raise NotUniformError(
                f"the relative positions of block {block.index} are for another grid than {side} x {side} tokens: load "
                f"the checkpoint with image_size={shape.image_size}, which resizes them"
            )
