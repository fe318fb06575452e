"""Weights files of SAM and MedSAM, whose tensors tell which model they are of."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from torch import Tensor, nn

from .._support.devices import require_device
from .._support.errors import CheckpointError
from .._support.files import atomic_write
from .._support.registry import BUILT_IN, failures_named
from .._support.tensor_file import load_tensors
from .._support.torch_file import read_torch_file
from .._support.words import lines_of
from ..data.images import is_image_file
from ..models.calls.call import on_models
from ..models.families import FAMILIES, build_model, building_families, family_of_kind, require_image_size
from ..models.family import BuildingFamily
from ..models.pairs import remember_place
from ..models.sam_hq.family import build_sam_hq
from ..models.sam_shape import PATCHES, SHAPES, SamShape, is_hq, is_sam, kind_of, read_shape, require_kind, tokens_side
from ..models.segment_anything import SegmentAnythingFamily, build_sam, fill_sam, resizes
from ..models.switches import set_attention
from ..models.tiny_vit.family import TinyVitFamily
from ..models.tiny_vit.shape import KINDS, STEM, is_tiny_vit, kind_of_tiny_vit, read_tiny_vit
from .adapters import merged, refuse_encoder_alone, refuse_more
from .content import Weights, weights_in
from .header import is_pruned_file
from .pruned import load, read_header
from .transformers_names import file_in, from_transformers, is_transformers

_LFS = b"version https://git-lfs"


def _what_it_is_instead(path: Path) -> str | None:
    """Name the usual things that are not a checkpoint but are called one."""
    with open(path, "rb") as stream:
        head = stream.read(512).lstrip()
    if not head:
        return "an empty file"
    if head.startswith(_LFS):
        return "a Git LFS pointer; fetch the file itself with `git lfs pull`"
    if head[:1] == b"<":
        return "an HTML or XML page; download the file itself"
    if is_image_file(path):
        return "an image, by its name"
    if is_pruned_file(path):
        return "a pruned model; load it with medcore_prune.load, or name it where a command takes one"
    return None


def _read(path: Path, device: str | torch.device) -> Any:
    if not path.is_file():
        what = "is a folder" if path.is_dir() else "no such file"
        # who names a .safetensors file means one that this package wrote
        wanted = "" if path.suffix == ".safetensors" else "; expected a weights file such as sam_vit_b_01ec64.pth"
        raise CheckpointError(f"{path}: {what}{wanted}")
    if instead := _what_it_is_instead(path):
        raise CheckpointError(f"{path}: expected a checkpoint, got {instead}")
    try:
        if path.suffix == ".safetensors":
            return load_tensors(path, str(device))
        return read_torch_file(path, device)
    except Exception as error:
        # torch's own text begins with a way to load it that would run what the file holds
        lines = [] if isinstance(error, UnpicklingError) else str(error).strip().splitlines()
        reason = lines[0][:160] if lines else type(error).__name__
        raise CheckpointError(
            f"{path}: not a checkpoint that can be read safely: damaged, truncated, or holding more than tensors "
            f"({reason})"
        ) from error


def read_state_dict(path: str | os.PathLike[str], device: str | torch.device = "cpu") -> dict[str, Tensor]:
    """Read the weights of a `.pth`, `.pt` or `.safetensors` file without executing anything in it.

    The file is a SAM or MedSAM checkpoint, or a training checkpoint (`content` has its keys and prefixes); or a file or
    folder of `transformers`, whose `SamModel` is given segment-anything's names. LoRA is merged where the file states
    its alpha. What is damaged or not finite is refused, and so are other adapters and decoders of other kinds.
    """
    return _as_sam(_weights(path, device))[0]


def _as_sam(weights: Weights) -> tuple[dict[str, Tensor], str]:
    """Weights as of `read_state_dict`, and words for where they come from, empty for a file of segment-anything."""
    state, place = weights.bare(), weights.path
    renamed = is_transformers(state)
    if renamed:
        state = from_transformers(state, place)
    state = merged(state, weights.beside, place)
    if any(name.startswith("image_encoder.") for name in state):
        refuse_more(state, place)
    return state, " (a SamModel of transformers, under segment-anything's names)" if renamed else ""


def _weights(path: str | os.PathLike[str], device: str | torch.device) -> Weights:
    place = Path(path)
    if place.is_dir():
        place = file_in(place) or place
    weights = weights_in(_read(place, device), place)
    state = weights.named
    bad = [name for name, value in state.items() if value.is_floating_point() and not torch.isfinite(value).all()]
    if bad:
        raise CheckpointError(
            f"{place}: {len(bad)} tensors hold NaN or infinity, first {bad[0]}; expected finite weights: take an "
            "earlier checkpoint"
        )
    return weights


@on_models()
def load_sam(
    kind: str | os.PathLike[str] | SamShape | None = None,
    path: str | os.PathLike[str] | None = None,
    *,
    device: str | torch.device = "cpu",
    image_size: int | None = None,
    seed: int = 0,
    attention: str = "segment-anything",
) -> nn.Module:
    """Build a SAM and load its weights: `load_sam("medsam_vit_b.pth")`.

    Args:
        kind: The checkpoint alone, whose tensors tell which SAM it is (`read_shape` has the rules); or, before it,
            `vit_b`, `vit_l`, `vit_h`, `pocket`, `lite_medsam` or `mobile_sam`, or a shape of your own.
        path: The checkpoint, where a kind was named; None leaves the weights untrained. A file of weights, of training
            or of `transformers`, or the folder that `save_pretrained` wrote of a `SamModel`: see `read_state_dict`.
        device: Where the model lives.
        image_size: Another input side in pixels than the checkpoint's; positions are resized as segment-anything's
            fine-tuners do.
        seed: Of untrained weights.
        attention: How attention is computed, see `set_attention`: `"sdpa"` takes less memory.

    Returns:
        A segment-anything `Sam` in evaluation mode, with a TinyViT as encoder for LiteMedSAM and MobileSAM, and
        SAM-HQ's decoder where the file has it.

    Raises:
        MedcorePruneError: Unknown kind or attention, an image size that does not fit, or a device that cannot be used.
        CheckpointError: The file cannot be read, its tensors are of no known kind or of another one, or their names or
            shapes do not fit.
    """
    if path is None and _is_place(kind):
        kind, path = None, kind
    require_device(device)
    if path is None:
        build: Any = build_model if kind in KINDS else build_sam
        return set_attention(build(kind, device, image_size, seed), attention)
    if isinstance(kind, str) and kind not in KINDS:
        require_kind(kind)
    state, origin = _as_sam(_weights(path, device))
    path = f"{path}{origin}"
    refuse_encoder_alone(state, Path(path))
    if kind in KINDS or (kind is None and is_tiny_vit(_sizes(state))):
        model = set_attention(_tiny_vit(kind, state, path, image_size).to(device).eval(), attention)
        remember_place(model, path)
        return model
    shape = _shape_for(kind, state, path)  # type: ignore[arg-type]
    built = build_sam_hq if is_hq(_sizes(state)) else build_sam
    model = set_attention(built(shape, device, image_size, seed), attention)
    try:
        named = kind if isinstance(kind, str) else kind_of(shape)
        fill_sam(model, state, named, resize=resizes(_sizes(state), shape, image_size))
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error}") from None
    remember_place(model, path)
    return model


def _sizes(state: Mapping[str, Tensor]) -> dict[str, tuple[int, ...]]:
    return {name: tuple(value.shape) for name, value in state.items()}


def _tiny_vit(
    kind: str | None, state: Mapping[str, Tensor], path: str | os.PathLike[str], image_size: int | None
) -> nn.Module:
    """A SAM with a TinyViT, of the kind that was asked for, if one was."""
    try:
        told = kind_of_tiny_vit(read_tiny_vit(_sizes(state)))
        if kind not in (None, told):
            raise CheckpointError(f"does not fit {kind}: its tensors are those of {told}; leave the kind out")
        model = TinyVitFamily().load(state, image_size)
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error}") from None
    assert model is not None
    return model


def _is_place(first: object) -> bool:
    """Whether what stands where a kind may is a checkpoint's name."""
    if not isinstance(first, str):
        return isinstance(first, os.PathLike)
    return first not in (*SHAPES, *KINDS) and (Path(first).suffix != "" or os.path.exists(first))


def _shape_for(kind: str | SamShape | None, state: Mapping[str, Tensor], path: str | os.PathLike[str]) -> SamShape:
    """The shape to build: what the tensors tell, held against the kind that was asked for, if one was."""
    if isinstance(kind, SamShape):
        return kind
    sizes = _sizes(state)
    try:
        told = read_shape(sizes)
    except CheckpointError as error:
        if kind is None:
            raise CheckpointError(f"{path}: {error}") from None
        # which of its tensors differ is the better answer
        known, side = SHAPES[kind], tokens_side(sizes)
        return replace(known, image_size=side * known.patch_size) if side else known
    if kind not in (None, kind_of(told)):
        raise CheckpointError(
            f"{path}: does not fit {kind}: its tensors are those of {kind_of(told)}; leave the kind out, or give "
            f"a checkpoint of {kind}"
        )
    return told


@on_models()
def load_checkpoint(
    path: str | os.PathLike[str],
    kind: str | None = None,
    image_size: int | None = None,
    *,
    device: str | torch.device = "cpu",
) -> nn.Module:
    """Load whatever file holds a model: weights of a SAM or of a family's own, or what `save` wrote.

    Args:
        path: The file.
        kind: A name in `families.kinds`, where the file does not tell it.
        image_size: Another input side in pixels; what `save` wrote has its own.
        device: Where the model goes.

    Returns:
        A model in float32 (half precision is for storage), in evaluation mode.

    Raises:
        MedcorePruneError: As for `load_sam` and `load`; or the file holds another kind or image size than asked for.
    """
    if is_pruned_file(path):
        model = _load_pruned(path, kind, device)
    elif kind in SHAPES or kind in KINDS:
        return load_sam(kind, path, device=device, image_size=image_size)
    else:
        model = _load_weights(path, kind, image_size, device)
    require_image_size(model, image_size, path)
    return model


def _load_pruned(path: str | os.PathLike[str], kind: str | None, device: str | torch.device) -> nn.Module:
    held = read_header(path).kind
    if kind is not None and held not in (kind, family_of_kind(kind).name):
        raise CheckpointError(f"{path}: holds a {held}, not a {kind}: leave the kind out, or give another file")
    return load(path, device).float()


def _load_weights(
    path: str | os.PathLike[str], kind: str | None, image_size: int | None, device: str | torch.device
) -> nn.Module:
    """Ask every family whether the tensors are its own, and hold the answer against the kind that was asked for."""
    require_device(device)
    wanted = None if kind is None else family_of_kind(kind)
    weights = _weights(path, device)
    built_in = [family for family in building_families() if FAMILIES.info(family.name).origin == BUILT_IN]
    others = [family for family in building_families() if family not in built_in]
    found, state = _claims(others, weights.named, image_size, path), weights.named
    if not found:
        # what a SAM may be wrapped in may be another family's own name
        state, origin = _as_sam(weights)
        path = f"{path}{origin}"
        if is_sam(_sizes(state)):
            refuse_encoder_alone(state, Path(path))
    found |= _claims(built_in, state, image_size, path)
    names = " and ".join(found)
    if not found:
        refuse_encoder_alone(state, Path(path))
        first = next(iter(state))
        raise CheckpointError(
            f"{path}: its tensors, such as {first}, are of no known model family; what is missing for each:"
            f"{lines_of(_missing())}"
        )
    if wanted is not None and wanted.name not in found:
        raise CheckpointError(f"{path}: does not fit {kind}: its tensors are those of {names}; leave the kind out")
    if wanted is None and len(found) > 1:
        raise CheckpointError(f"{path}: its tensors are those of {names}: say which with the kind")
    model = found[wanted.name] if wanted else next(iter(found.values()))
    remember_place(model, path)
    return model.to(device).eval()


def _missing() -> dict[str, str]:
    """Family to a tensor by whose name it would know its own; the built-in ones first."""
    known = {SegmentAnythingFamily.name: PATCHES, TinyVitFamily.name: STEM}
    others = [family.name for family in building_families() if family.name not in known]
    return {name: f"no {tensor}" for name, tensor in known.items()} | dict.fromkeys(others, "not its names")


def _claims(
    families: Sequence[BuildingFamily],
    state: Mapping[str, Tensor],
    image_size: int | None,
    path: str | os.PathLike[str],
) -> dict[str, nn.Module]:
    """The models of the families that take tensors for their own, by the family's name."""
    found: dict[str, nn.Module] = {}
    for family in families:
        with failures_named(f"{path}: family {family.name}", CheckpointError):
            model = family.load(state, image_size)
        if model is not None:
            found[family.name] = model
    return found


def save_training_checkpoint(path: str | Path, model: nn.Module, **extra: int | float | str) -> None:
    """Write `{"model": state_dict, ...}`, the format of MedSAM's training checkpoints, whole or not at all."""
    with atomic_write(path) as temporary:
        torch.save({"model": model.state_dict(), **extra}, temporary)
