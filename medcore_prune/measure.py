"""Seconds and peak memory of a piece of work."""

import time
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

_MOST_DEAD = 10_000  # storages that are gone and still known, before they are forgotten


@dataclass
class Measured:
    """What the work took.

    Attributes:
        seconds: Wall-clock time, without that of the counting.
        peak_bytes: Most bytes in tensors made during the work that were alive at the same time, on any device. What
            was there before, the process's own memory and pages of mapped files are not in it.
    """

    seconds: float = 0.0
    peak_bytes: int = 0


class _Storage(weakref.ref[torch.UntypedStorage]):
    """A storage that does not live longer for being known, and what is left to say of it when it is gone."""

    __slots__ = ("key", "size")
    key: int
    size: int


class _TensorBytes(TorchDispatchMode):
    """Counts the bytes of the storages that operations return, for as long as they live."""

    def __init__(self) -> None:
        super().__init__()
        self.alive, self.peak, self.overhead = 0, 0, 0.0
        self._known: dict[int, _Storage] = {}
        self._dead: list[weakref.ref[torch.UntypedStorage]] = []

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
        entered = time.perf_counter()
        before = {id(tensor.untyped_storage()) for tensor in _tensors((args, *kwargs.values()))}
        begun = time.perf_counter()
        result = func(*args, **kwargs)
        ended = time.perf_counter()
        for tensor in _tensors(result):
            storage = tensor.untyped_storage()
            if id(storage) not in before:
                self._add(storage)
        self.overhead += begun - entered + time.perf_counter() - ended
        return result

    def _add(self, storage: torch.UntypedStorage) -> None:
        known = self._known.get(id(storage))
        if known is not None and known() is storage:
            return
        # what is called when a storage dies is no Python of ours: what is raised there, an interrupt too, would be lost
        made = _Storage(storage, self._dead.append)
        made.key, made.size = id(storage), storage.nbytes()
        self._known[made.key] = made
        self.alive += made.size - (0 if known is None else known.size)
        if self.alive > self.peak or len(self._dead) > _MOST_DEAD:
            self._forget_dead()
            self.peak = max(self.peak, self.alive)

    def _forget_dead(self) -> None:
        """Take off what has died: until then `alive` is an upper bound, which is enough below the peak."""
        while self._dead:
            gone = self._dead.pop()
            # another storage may have come to lie at the same place meanwhile
            if isinstance(gone, _Storage) and self._known.get(gone.key) is gone:
                del self._known[gone.key]
                self.alive -= gone.size


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
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    start = time.perf_counter()
    try:
        with counter:
            yield result
        if torch.cuda.is_available():
            torch.cuda.synchronize()
    finally:
        result.seconds = time.perf_counter() - start - counter.overhead
        result.peak_bytes = counter.peak
