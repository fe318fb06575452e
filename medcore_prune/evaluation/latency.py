"""How long a model takes, and how much memory, on this machine: measured so that models can be compared.

Runs of all models are interleaved, so that a machine that is busy for a while is busy for all of them alike, and the
median counts. Inputs are noise: the time does not depend on what an image shows.
"""

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

import torch
from torch import Tensor, nn

from .._support.errors import MedcorePruneError
from .._support.progress import track
from ..models.calls.call import on_models
from ..models.families import geometry_of
from ..models.protocol import embed, low_res_logits
from .memory import measured

Inputs = tuple[Tensor, Tensor]
K = TypeVar("K")
T = TypeVar("T")


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


PARTS: dict[str, Callable[[nn.Module, Inputs], object]] = {
    # what pruning makes smaller
    "encoder": lambda model, inputs: embed(model, inputs[0]),
    # image and box to low-resolution logits
    "model": lambda model, inputs: low_res_logits(model, *inputs),
}


def noise(model: nn.Module, batch: int) -> Inputs:
    """Images (B, 3, S, S) of noise and a box (B, 4) each, in the model's input size, number type and place."""
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


def percentile(times_ms: Sequence[float], percent: int) -> float:
    """Return a percentile of times, 1 to 99, between neighbours by linear interpolation."""
    if len(times_ms) == 1:
        return times_ms[0]
    return statistics.quantiles(times_ms, n=100, method="inclusive")[percent - 1]


def interleaved(runs: Mapping[K, Callable[[], T]], repeats: int, warmup: int = 2, label: str = "") -> dict[K, list[T]]:
    """Call each of `runs` in turn, round after round, and return what it gave in the rounds after `warmup`.

    A round is whole for all: element i of each list is of the same round. Progress is shown under a label.
    """
    found: dict[K, list[T]] = {name: [] for name in runs}
    rounds = range(warmup + repeats)
    for number in track(rounds, label, total=len(rounds), show=bool(label)):
        for name, run in runs.items():
            result = run()
            if number >= warmup:
                found[name].append(result)
    return found


@on_models("models", refuse=None, autocast=True)
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
    runs = {name: partial(PARTS[part], model, noise(model, batch)) for name, model in models.items()}
    times = interleaved({name: partial(_timed_ms, run, devices[name]) for name, run in runs.items()}, repeats, warmup)
    return {
        name: Latency(
            median_ms=statistics.median(times[name]),
            p10_ms=percentile(times[name], 10),
            p90_ms=percentile(times[name], 90),
            peak_bytes=_peak_bytes(run, devices[name]),
            batch=batch,
            part=part,
            device=str(devices[name]),
            threads=torch.get_num_threads(),
        )
        for name, run in runs.items()
    }


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
