"""Files that torch wrote, opened without running anything in them and without taking more memory than they are long."""

import os
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from .files import not_a_file


def read_torch_file(path: str | os.PathLike[str], device: str | torch.device = "cpu") -> Any:
    """Load what `torch.save` wrote, tensors and plain values only; torch's own errors pass.

    Refused with ValueError: what is no file, entries that are compressed or claim to be larger than the file, and a
    tensor that claims more values than are stored for it. Either takes any amount of memory from a small file.
    """
    if os.path.exists(path) and (problem := not_a_file(path)):
        raise ValueError(problem)
    _check_archive(Path(path))
    content = torch.load(path, map_location=device, weights_only=True)
    for tensor in _tensors(content):
        _check_backed(tensor)
    return content


def _check_archive(path: Path) -> None:
    if not zipfile.is_zipfile(path):
        return
    with zipfile.ZipFile(path) as archive:
        entries = archive.infolist()
    if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries):
        raise ValueError("its entries are compressed, which torch.save never does")
    if sum(entry.file_size for entry in entries) > path.stat().st_size:
        raise ValueError("its entries claim to be larger than the file")


def _tensors(content: Any) -> Iterator[Tensor]:
    todo = [content]
    while todo:
        value = todo.pop()
        if isinstance(value, Tensor):
            yield value
        elif isinstance(value, dict):
            todo += value.values()
        elif isinstance(value, list | tuple):
            todo += value


def _check_backed(tensor: Tensor) -> None:
    if tensor.layout != torch.strided or tensor.is_meta or tensor.is_quantized:
        raise ValueError("a tensor that is sparse, quantised or without values, expected plain ones")
    if tensor.numel() * tensor.element_size() > tensor.untyped_storage().nbytes():
        raise ValueError(f"a tensor of shape {tuple(tensor.shape)[:8]} for which not as many values are stored")


def unshared(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Copy what two names share, which the file cannot."""
    seen: set[int] = set()
    for name, value in state.items():
        place = value.untyped_storage().data_ptr()
        if place in seen:
            state[name] = value.clone()
        seen.add(place)
    return state
