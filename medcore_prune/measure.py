"""Seconds and peak memory of a piece of work."""

import time
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode


@dataclass
class Measured:
    """What the work took.

    Attributes:
        seconds: Wall-clock time.
        peak_bytes: Most bytes in tensors made during the work that were alive at the same time, on any device. What
            was there before, the process's own memory and pages of mapped files are not in it.
    """

    seconds: float = 0.0
    peak_bytes: int = 0


class _TensorBytes(TorchDispatchMode):
    """Counts the bytes of the storages that operations return, for as long as they live."""

    def __init__(self) -> None:
        super().__init__()
        self.alive, self.peak = 0, 0
        self._known: dict[int, tuple[weakref.ref[torch.UntypedStorage], int]] = {}

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        # torch would import its compiler, seconds that are not the work's
        return False

    def __torch_dispatch__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        before = {id(tensor.untyped_storage()) for tensor in _tensors((args, *kwargs.values()))}
        result = func(*args, **kwargs)
        for tensor in _tensors(result):
            storage = tensor.untyped_storage()
            if id(storage) not in before:
                self._add(storage)
        return result

    def _add(self, storage: torch.UntypedStorage) -> None:
        # no callback when a storage dies: Python drops what is raised in one, and an interrupt would be lost there
        key, size = id(storage), storage.nbytes()
        reference, earlier = self._known.get(key, (None, 0))
        if reference is not None and reference() is storage:
            return
        self._known[key] = weakref.ref(storage), size
        self.alive += size - earlier
        if self.alive > self.peak:
            self._forget_dead()
            self.peak = max(self.peak, self.alive)

    def _forget_dead(self) -> None:
        """Take off what has died: until then `alive` is an upper bound, which is enough below the peak."""
        self._known = {key: entry for key, entry in self._known.items() if entry[0]() is not None}
        self.alive = sum(size for _, size in self._known.values())


def _tensors(value: object) -> Iterator[torch.Tensor]:
    """Tensors among an operation's arguments or results, which are never nested in anything but tuples and lists."""
    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, tuple | list):
        for part in value:
            yield from _tensors(part)


@contextmanager
def measured() -> Iterator[Measured]:
    """Measure the block.

    Yields:
        Filled in when the block ends.
    """
    result, counter = Measured(), _TensorBytes()
    start = time.perf_counter()
    try:
        with counter:
            yield result
        if torch.cuda.is_available():
            torch.cuda.synchronize()
    finally:
        result.seconds, result.peak_bytes = time.perf_counter() - start, counter.peak
