"""Weights files of SAM and MedSAM, whose tensors tell which model they are of."""

import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from .._support.devices import require_device
from .._support.errors import CheckpointError
from .._support.files import atomic_write
from .._support.torch_file import read_torch_file
from ..data.images import is_image_file
from ..models.families import geometry_of
from ..models.pairs import _differences, _summary
from ..models.sam_shape import SHAPES, SamShape, kind_of, read_shape, require_kind, tokens_side
from ..models.segment_anything import build_sam
from ..models.switches import set_attention
from .header import is_pruned_file
from .pruned import load, read_header

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
            return load_file(path, device=str(device))
        return read_torch_file(path, device)
    except Exception as error:
        # torch's own text begins with a way to load it that would run what the file holds
        lines = [] if isinstance(error, UnpicklingError) else str(error).strip().splitlines()
        reason = lines[0][:160] if lines else type(error).__name__
        raise CheckpointError(
            f"{path}: not a checkpoint that can be read safely: damaged, truncated, or holding more than tensors "
            f"({reason})"
        ) from error


def _unwrap(content: Any, path: Path) -> dict[str, Tensor]:
    """Take the state dictionary out of the wrappings that training scripts put around it."""
    for key in ("model", "state_dict"):
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
    if not isinstance(content, Mapping) or not content or not all(isinstance(v, Tensor) for v in content.values()):
        raise CheckpointError(
            f"{path}: expected a dictionary of tensors (or one under the key 'model'), got {type(content).__name__}"
        )
    return {str(name).removeprefix("module."): value for name, value in content.items()}


def read_state_dict(path: str | os.PathLike[str], device: str | torch.device = "cpu") -> dict[str, Tensor]:
    """Read the weights of a `.pth`, `.pt` or `.safetensors` file without executing anything in it.

    Args:
        path: A SAM or MedSAM checkpoint, or a training checkpoint `{"model": ..., "optimizer": ..., "epoch": ...}`.
        device: Where the tensors go.

    Returns:
        Parameter names to tensors; a `module.` prefix of data-parallel training is removed.

    Raises:
        CheckpointError: No such file, not a checkpoint, damaged, or not finite.
    """
    place = Path(path)
    state = _unwrap(_read(place, device), place)
    bad = [name for name, value in state.items() if value.is_floating_point() and not torch.isfinite(value).all()]
    if bad:
        raise CheckpointError(
            f"{place}: {len(bad)} tensors hold NaN or infinity, first {bad[0]}; expected finite weights: take an "
            "earlier checkpoint"
        )
    return state


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
            `vit_b`, `vit_l`, `vit_h` or `pocket`, or a shape of your own.
        path: The checkpoint, where a kind was named; None leaves the weights untrained.
        device: Where the model lives.
        image_size: Another input side in pixels than the checkpoint's; positions are resized as segment-anything's
            fine-tuners do.
        seed: Of untrained weights.
        attention: How attention is computed, see `set_attention`: `"sdpa"` takes less memory.

    Returns:
        A segment-anything `Sam` in evaluation mode.

    Raises:
        MedcorePruneError: Unknown kind or attention, an image size that does not fit, or a device that cannot be used.
        CheckpointError: The file cannot be read, its tensors are of no known kind or of another one, or their names or
            shapes do not fit.
    """
    if path is None and _is_place(kind):
        kind, path = None, kind
    require_device(device)
    if path is None:
        return set_attention(build_sam(kind, device, image_size, seed), attention)  # type: ignore[arg-type]
    if isinstance(kind, str):
        require_kind(kind)
    state = read_state_dict(path, device)
    shape = _shape_for(kind, state, path)  # type: ignore[arg-type]
    model = set_attention(build_sam(shape, device, image_size, seed), attention)
    _fill(model, state, path, kind if isinstance(kind, str) else kind_of(shape), resize=image_size is not None)
    return model


def _is_place(first: object) -> bool:
    """Whether what stands where a kind may is a checkpoint's name."""
    if not isinstance(first, str):
        return isinstance(first, os.PathLike)
    return first not in SHAPES and (Path(first).suffix != "" or os.path.exists(first))


def _shape_for(kind: str | SamShape | None, state: Mapping[str, Tensor], path: str | os.PathLike[str]) -> SamShape:
    """The shape to build: what the tensors tell, held against the kind that was asked for, if one was."""
    if isinstance(kind, SamShape):
        return kind
    sizes = {name: tuple(value.shape) for name, value in state.items()}
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


def _fill(model: nn.Module, state: dict[str, Tensor], path: str | os.PathLike[str], kind: str, resize: bool) -> None:
    expected = model.state_dict()
    # a scale for SamPredictor alone; files of either kind may lack it or hold SAM's own
    for name in ("pixel_mean", "pixel_std"):
        state.pop(name, None)
        expected.pop(name, None)
    if resize:
        state = {name: _resize_position(value, expected.get(name)) for name, value in state.items()}
    if lines := _differences(expected, state):
        raise CheckpointError(f"{path}: does not fit {kind}: {_summary(lines)}; is it another model?")
    model.load_state_dict(state, strict=False)


def load_checkpoint(
    path: str | os.PathLike[str],
    kind: str | None = None,
    image_size: int | None = None,
    *,
    device: str | torch.device = "cpu",
) -> nn.Module:
    """Load whatever file holds a model: weights of a SAM, or what `save` wrote.

    Args:
        path: The file.
        kind: As for `load_sam`, where the file does not tell it.
        image_size: Another input side in pixels; what `save` wrote has its own.
        device: Where the model goes.

    Returns:
        A model in float32 (half precision is for storage), in evaluation mode.

    Raises:
        MedcorePruneError: As for `load_sam` and `load`; or the file holds another kind or image size than asked for.
    """
    if not is_pruned_file(path):
        return load_sam(kind, path, device=device, image_size=image_size)
    if kind not in (None, held := read_header(path).kind):
        raise CheckpointError(f"{path}: holds a {held}, not a {kind}: leave the kind out, or give another file")
    model = load(path, device).float()
    if image_size not in (None, geometry_of(model).image_size):
        raise CheckpointError(
            f"{path} is for {geometry_of(model).image_size} px: leave the image size out, or prune again at another"
        )
    return model


def _resize_position(value: Tensor, target: Tensor | None) -> Tensor:
    """Resize position tables, the only parameters whose shape depends on the image size."""
    if target is None or value.shape == target.shape:
        return value
    if value.ndim == 4 and value.shape[-1] == target.shape[-1]:  # pos_embed (1, h, w, C)
        moved = nn.functional.interpolate(value.permute(0, 3, 1, 2), target.shape[1:3], mode="bilinear")
        return moved.permute(0, 2, 3, 1)
    if value.ndim == 2 and value.shape[1] == target.shape[1]:  # rel_pos (2 * side - 1, head_dim)
        return nn.functional.interpolate(value.T[None], len(target), mode="linear")[0].T
    return value


def save_training_checkpoint(path: str | Path, model: nn.Module, **extra: int | float | str) -> None:
    """Write `{"model": state_dict, ...}`, the format of MedSAM's training checkpoints, whole or not at all."""
    with atomic_write(path) as temporary:
        torch.save({"model": model.state_dict(), **extra}, temporary)
