"""Safetensors files, read tensor by tensor with plain reads.

The format's own library maps files into memory: where another process cuts a file that is mapped, or a disk of a
network goes, the program ends without a word (SIGBUS). A read that comes short is an error like any other.
"""

import json
import math
import os
import threading
import weakref
from collections.abc import Mapping
from typing import Any, NamedTuple, Self

import torch
from safetensors import SafetensorError
from torch import Tensor

from .files import not_a_file

_KINDS = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}
_MOST_HEADER_BYTES = 100_000_000  # as the format has it


class Slice(NamedTuple):
    """What the header says of a tensor: `dtype` as the format names it, and where its bytes begin and end."""

    dtype: str
    shape: tuple[int, ...]
    start: int
    end: int

    def get_dtype(self) -> str:
        """Type of the values, such as `F32`."""
        return self.dtype

    def get_shape(self) -> list[int]:
        """Sizes of the tensor."""
        return list(self.shape)


class TensorFile:
    """A file as `safetensors.safe_open` shows it, also as a context; what is wrong with it is a `SafetensorError`."""

    def __init__(self, path: str | os.PathLike[str], device: str = "cpu") -> None:
        if problem := not_a_file(path):
            raise SafetensorError(problem)
        self._device, self._lock = device, threading.Lock()
        # kept open: what replaces the file meanwhile is another one
        self._stream = open(path, "rb")  # noqa: SIM115
        self._close = weakref.finalize(self, self._stream.close)
        self._metadata, self._slices = self._header()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._close()

    def keys(self) -> list[str]:
        """Names of the tensors, in the order of their bytes."""
        return list(self._slices)

    def metadata(self) -> dict[str, str] | None:
        """The texts beside them."""
        return self._metadata

    def get_slice(self, name: str) -> Slice:
        """What the header says of a tensor."""
        if name not in self._slices:
            raise SafetensorError(f"File does not contain tensor {name}")
        return self._slices[name]

    def get_tensor(self, name: str) -> Tensor:
        """Read a tensor."""
        found = self.get_slice(name)
        if found.dtype not in _KINDS:
            raise SafetensorError(f"{name} is of type {found.dtype}, which is not read here")
        values = torch.empty(found.shape, dtype=_KINDS[found.dtype])
        if values.numel():
            buffer = values.reshape(-1).view(torch.uint8).numpy().data.cast("B")
            with self._lock:
                self._stream.seek(found.start)
                read = self._stream.readinto(buffer)
            if read != len(buffer):
                raise SafetensorError(f"{name} is cut off")
        return values.to(self._device)

    def _header(self) -> tuple[dict[str, str] | None, dict[str, Slice]]:
        size = os.fstat(self._stream.fileno()).st_size
        first = self._stream.read(8)
        length = int.from_bytes(first, "little")
        if len(first) < 8 or length > min(_MOST_HEADER_BYTES, size - 8):
            raise SafetensorError("header too small or too large")
        try:
            header = json.loads(self._stream.read(length).decode("utf-8"))
            texts = header.pop("__metadata__", None)
            slices = sorted(
                ((name, _slice(told, 8 + length)) for name, told in header.items()), key=lambda item: item[1].start
            )
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            raise SafetensorError(f"invalid header ({str(error)[:80]})") from error
        if texts is not None and not (
            isinstance(texts, dict) and all(isinstance(text, str) for text in texts.values())
        ):
            raise SafetensorError("invalid header (metadata that are no texts)")
        # one behind the other, to the end of the file, as the format has it
        ends = [8 + length, *(each.end for _, each in slices)]
        if any(each.start != end for (_, each), end in zip(slices, ends, strict=False)) or ends[-1] != size:
            raise SafetensorError("the tensors do not fill the file: it is cut off, or more was put in")
        return texts, dict(slices)


def load_tensors(path: str | os.PathLike[str], device: str = "cpu") -> dict[str, Tensor]:
    """Read all tensors of a file."""
    with TensorFile(path, device=device) as file:
        return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118


def _slice(told: Mapping[str, Any], offset: int) -> Slice:
    dtype, shape, (start, end) = told["dtype"], told["shape"], told["data_offsets"]
    if not isinstance(dtype, str) or any(type(side) is not int or side < 0 for side in [*shape, start, end]):
        raise ValueError("sizes that are no whole numbers")
    kind = _KINDS.get(dtype)
    if end < start or (kind is not None and math.prod(shape) * kind.itemsize != end - start):
        raise ValueError("a tensor of another size than its bytes")
    return Slice(dtype, tuple(shape), offset + start, offset + end)
