"""Most bytes of tensors that work has alive at a time: counted while it runs, or found beforehand without its numbers.

    with measured() as cost:
        work(model)
    cost.peak_bytes == peak_bytes(work, model)

`peak_bytes` runs the very same work on tensors that have shapes and no numbers, in no memory and little time.
"""

import copy
import time
import weakref
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

from ..models.fingerprint import hooks_of, settings_of

_MOST_DEAD = 10_000  # storages that are gone and still known, before they are forgotten


@dataclass
class Measured:
    """What the work took: wall-clock seconds without those of the counting, and bytes of tensors.

    The peak is of those made during the work that were alive at the same time, on any device. What was there before,
    the process's own memory and pages of mapped files are not in it.
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
        before = set(map(id, _storages(args)))
        if kwargs:
            before.update(map(id, _storages(kwargs.values())))
        begun = time.perf_counter()
        result = func(*args, **kwargs)
        ended = time.perf_counter()
        for storage in _storages((result,)):
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


_NESTED = (tuple, list)


def _storages(values: Iterable[object]) -> Iterator[torch.UntypedStorage]:
    """Storages of an operation's arguments or results, which are never nested in anything but tuples and lists."""
    for value in values:
        if isinstance(value, torch.Tensor):
            yield value.untyped_storage()
        elif isinstance(value, _NESTED):
            yield from _storages(value)


@contextmanager
def measured() -> Iterator[Measured]:
    """Measure the block; what is yielded is filled in when it ends."""
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


_NUMBER = torch.ops.aten._local_scalar_dense.default
_DEVICE = torch.ops.prim.device.default


class _ShapeBytes(_TensorBytes):
    """Counts likewise where there are no numbers: what asks for one gets 1, and what asks whether, is told so."""

    def __torch_dispatch__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        if func is _NUMBER:
            return 1.0 if args[0].is_floating_point() else 1 if args[0].dtype is not torch.bool else True
        if func is _DEVICE and hasattr(args[0], "fake_device"):
            # asked for more often than all else together, and slow to be told
            return args[0].fake_device
        return super().__torch_dispatch__(func, types, args, kwargs)


_KNOWN: dict[Hashable, int] = {}


def peak_bytes(step: Callable[..., object], *models: nn.Module) -> int:
    """Find how many bytes of tensors a step would have alive at the most, without running it.

    The step gets a copy of each model, in no memory, and makes all else itself. What it makes, on whatever device the
    models are (`meta` counts as a processor), has shapes and no numbers: what decides by a number goes on as if it were
    1. Steps that compare equal are run once for models that compute alike. The result is, the models apart, what
    `measured` counts of the real run, kernels' own workspace apart.
    """
    key = None if hooks_of(*models) else (step, *(_structure(model) for model in models))
    if key is None or key not in _KNOWN:
        counter = _ShapeBytes()
        # a tensor that a module keeps besides its parameters and buffers counts as a shape as well
        with FakeTensorMode(allow_non_fake_inputs=True):
            copies = [_without_numbers(model) for model in models]
            with counter:
                step(*copies)
        if key is None:
            return counter.peak
        _KNOWN[key] = counter.peak
    return _KNOWN[key]


def _without_numbers(model: nn.Module) -> nn.Module:
    """A copy of a model in no memory; within a `FakeTensorMode`."""
    made: dict[int, Any] = {}
    for tensor in (*model.parameters(), *model.buffers()):
        device = torch.device("cpu") if tensor.device.type == "meta" else tensor.device
        blank = torch.empty_strided(tensor.shape, tensor.stride(), dtype=tensor.dtype, device=device)
        kept = isinstance(tensor, nn.Parameter)
        made[id(tensor)] = nn.Parameter(blank, requires_grad=tensor.requires_grad) if kept else blank
    return copy.deepcopy(model, made)


def _structure(model: nn.Module) -> Hashable:
    """All that decides which operations a model runs, and on what shapes."""
    tensors = (*model.named_parameters(), *model.named_buffers())
    return (
        tuple(
            (name, type(part), part.training, *sorted(settings_of(part).items()))
            for name, part in model.named_modules()
        ),
        tuple((name, t.shape, t.dtype, t.device, t.requires_grad) for name, t in tensors),
    )
