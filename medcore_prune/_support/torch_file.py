"""Files that torch wrote, opened without running anything in them and without taking more memory than they are long."""

import os
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .alone import alone
from .files import not_a_file


def read_torch_file(path: str | os.PathLike[str], device: str | torch.device = "cpu") -> Any:
    """Load what `torch.save` wrote, tensors and plain values only; torch's own errors pass.

    NumPy's scalars, as training scripts keep losses and epochs, come back as plain numbers. Refused with ValueError:
    what is no file; entries that are compressed or claim to be larger than the file, and a tensor that claims more
    values than are stored for it, either of which takes any amount of memory from a small file; and a container that
    holds itself, in which whoever looks for tensors would never come to an end.
    """
    if os.path.exists(path) and (problem := not_a_file(path)):
        raise ValueError(problem)
    _check_archive(Path(path))
    # what torch lets through is one list for the whole process
    with alone(torch.serialization), torch.serialization.safe_globals(_NUMBERS):
        content = torch.load(path, map_location=device, weights_only=True)
    for tensor in _tensors(content):
        _check_backed(tensor)
    return content


def _number(kind: np.dtype, raw: bytes) -> bool | int | float | complex:
    """What NumPy's own `scalar` makes of a pickle, for numbers alone."""
    if kind.kind not in "biufc" or len(raw) != kind.itemsize:
        raise ValueError("a NumPy scalar that is no number")
    value: bool | int | float | complex = np.frombuffer(raw, dtype=kind)[0].item()
    return value


_NUMBERS: list[Any] = [
    (_number, "numpy.core.multiarray.scalar"),
    (_number, "numpy._core.multiarray.scalar"),
    np.dtype,
    *{type(np.dtype(kind)) for kind in "?bBhHiIlLqQefdFD"},
]
"""What a pickle of NumPy's scalars names, with a reader of our own in the place of NumPy's."""


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
    """Every tensor of nested containers, each of which is looked at once, and none of which may hold itself."""
    todo, within, done = [(content, False)], set[int](), set[int]()
    while todo:
        value, leaving = todo.pop()
        key = id(value)
        if isinstance(value, Tensor):
            yield value
        elif leaving:
            within.remove(key)
            done.add(key)
        elif isinstance(value, dict | list | tuple | set | frozenset) and key not in done:
            if key in within:
                raise ValueError(f"a {type(value).__name__} that contains itself")
            within.add(key)
            todo.append((value, True))
            todo += [(part, False) for part in (value.values() if isinstance(value, dict) else value)]


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
