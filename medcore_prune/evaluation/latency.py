"""How long a model takes, and how much memory, on this machine: measured so that models can be compared.

Runs of all models are interleaved, so that a machine that is busy for a while is busy for all of them alike, and the
median counts. Inputs are noise: the time does not depend on what an image shows.
"""

import statistics
import time
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from .._support.errors import MedcorePruneError
from ..models.families import geometry_of
from ..models.protocol import embed, low_res_logits

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


Inputs = tuple[Tensor, Tensor]


@dataclass(frozen=True)
class Latency:
    """Time and memory of forward passes over one batch.

    Attributes:
        median_ms, p10_ms, p90_ms: Wall-clock time of a batch: median, tenth and ninetieth percentile.
        peak_bytes: Most bytes of tensors alive during a pass, weights and input apart.
        batch: Images in the batch.
        part: What ran: a name in `PARTS`.
        device: Where it ran.
        threads: Threads that a processor's operators may use.
    """

    median_ms: float
    p10_ms: float
    p90_ms: float
    peak_bytes: int
    batch: int
    part: str
    device: str
    threads: int

    @property
    def images_per_second(self) -> float:
        """Throughput at the median."""
        return 1e3 * self.batch / self.median_ms


def _run_encoder(model: nn.Module, inputs: Inputs) -> object:
    return embed(model, inputs[0])


def _run_model(model: nn.Module, inputs: Inputs) -> object:
    return low_res_logits(model, *inputs)


PARTS: dict[str, Callable[[nn.Module, Inputs], object]] = {
    # what pruning makes smaller
    "encoder": _run_encoder,
    # image and box to low-resolution logits
    "model": _run_model,
}


def _inputs(model: nn.Module, batch: int) -> Inputs:
    device, size = next(model.parameters()).device, geometry_of(model).image_size
    images = torch.rand((batch, 3, size, size), generator=torch.Generator().manual_seed(0))
    boxes = torch.tensor([[size / 4, size / 4, size / 2, size / 2]]).repeat(batch, 1)
    dtype = next(model.parameters()).dtype
    return images.to(device, dtype), boxes.to(device)


def _synchronise(device: torch.device) -> None:
    # kernels of a GPU are queued: without waiting only the queueing would be timed
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _timed_ms(run: Callable[[], object], device: torch.device) -> float:
    _synchronise(device)
    start = time.perf_counter()
    run()
    _synchronise(device)
    return 1e3 * (time.perf_counter() - start)


def _peak_bytes(run: Callable[[], object], device: torch.device) -> int:
    if device.type != "cuda":
        with measured() as cost:
            run()
        return cost.peak_bytes
    torch.cuda.reset_peak_memory_stats(device)
    before = torch.cuda.memory_allocated(device)
    run()
    _synchronise(device)
    return int(torch.cuda.max_memory_allocated(device) - before)


def _percentile(times_ms: list[float], percent: int) -> float:
    if len(times_ms) == 1:
        return times_ms[0]
    return statistics.quantiles(times_ms, n=100, method="inclusive")[percent - 1]


@torch.no_grad()
def compare_latency(
    models: Mapping[str, nn.Module], *, batch: int = 1, repeats: int = 10, warmup: int = 2, part: str = "encoder"
) -> dict[str, Latency]:
    """Time several models in turn, round after round.

    Args:
        models: By name, on whatever devices they are; all in evaluation mode.
        batch: Images at a time.
        repeats: Rounds that count.
        warmup: Rounds before them.
        part: `"encoder"`, or `"model"` for image and box to logits.

    Returns:
        A `Latency` a model, in the same order.

    Raises:
        MedcorePruneError: Unknown part, or counts that are not positive.
    """
    if part not in PARTS:
        raise MedcorePruneError(f"unknown part {part!r}: expected one of {', '.join(PARTS)}")
    if batch < 1 or repeats < 1 or warmup < 0:
        raise MedcorePruneError(
            f"batch {batch}, repeats {repeats}, warmup {warmup}: expected at least 1, 1 and 0 to measure anything"
        )
    devices = {name: next(model.parameters()).device for name, model in models.items()}
    inputs = {name: _inputs(model, batch) for name, model in models.items()}
    runs = {name: _bound(PARTS[part], model, inputs[name]) for name, model in models.items()}
    times: dict[str, list[float]] = {name: [] for name in models}
    for number in range(warmup + repeats):
        for name, run in runs.items():
            elapsed_ms = _timed_ms(run, devices[name])
            if number >= warmup:
                times[name].append(elapsed_ms)
    return {
        name: Latency(
            median_ms=statistics.median(times[name]),
            p10_ms=_percentile(times[name], 10),
            p90_ms=_percentile(times[name], 90),
            peak_bytes=_peak_bytes(run, devices[name]),
            batch=batch,
            part=part,
            device=str(devices[name]),
            threads=torch.get_num_threads(),
        )
        for name, run in runs.items()
    }


def _bound(run: Callable[[nn.Module, Inputs], object], model: nn.Module, inputs: Inputs) -> Callable[[], object]:
    return lambda: run(model, inputs)


def measure_latency(
    model: nn.Module, *, batch: int = 1, repeats: int = 10, warmup: int = 2, part: str = "encoder"
) -> Latency:
    """Time one model; to compare models, time them together with `compare_latency`.

    Args:
        model, batch, repeats, warmup, part: As for `compare_latency`.

    Returns:
        What it took.

    Raises:
        MedcorePruneError: As for `compare_latency`.
    """
    return compare_latency({"": model}, batch=batch, repeats=repeats, warmup=warmup, part=part)[""]
