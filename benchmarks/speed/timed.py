"""What the timings share: a batch of noise, a training step on it, a clock, medians, options, the form of records."""

import json
import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import wraps
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import click
import torch
from torch import Tensor, nn

from ..._support.devices import processor
from ..._support.files import write_json_atomic
from ...models.losses import plain_loss
from ...models.protocol import input_logits, low_res_logits
from ...models.sam_shape import SHAPES

Batch = tuple[Tensor, Tensor, Tensor]
Round = dict[str, float]
"""Seconds of each way, by its name, taken one after the other."""
SHAPE = click.Choice(list(SHAPES))
REPEATS = click.option(
    "--repeats", type=click.IntRange(1), default=7, show_default=True, help="Rounds; the medians count."
)


def timing_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options of a command that times ways through one batch."""
    for option in (
        REPEATS,
        click.option("--batch-size", type=click.IntRange(1), default=8, show_default=True),
        click.option("--image-size", type=int, help="Input side in pixels.  [default: the model's own]"),
        click.option("--model", type=SHAPE, default="pocket", show_default=True, help="Random weights."),
    ):
        command = option(command)
    return command


@dataclass(frozen=True)
class Run:
    """Where a timing runs, and where its record goes: the options that all of these commands have.

    Attributes:
        device: Where models run.
        threads: Of PyTorch, and of ONNX Runtime where it runs.
        note: What else to know of the machine, in words.
        out: The JSON file to write; None prints alone.
    """

    device: str
    threads: int
    note: str = ""
    out: Path | None = None

    def record(
        self, script: str, settings: Mapping[str, Any], measure: Callable[[], Mapping[str, Any]], *packages: str
    ) -> None:
        """Measure, and print and write what was found after what it was found on.

        `packages` are those beside this one and torch whose versions count, named as they are installed.
        """
        before = load()
        found = measure()
        result = {
            "script": script,
            "date": datetime.now(UTC).date().isoformat(),
            "device": device_name(self.device),
            "clock": "wall" if _on_gpu(self.device) else "CPU",
            "machine": {**machine(), "load_before": before, "load_after": load()},
            "threads": torch.get_num_threads(),
            "versions": versions_of("medcore-prune", "torch", *packages),
            "note": self.note,
            **settings,
            **found,
        }
        if self.out is not None:
            write_json_atomic(self.out, result)
        click.echo(json.dumps(result, indent=1))


def recorded(command: Callable[..., None]) -> Callable[..., None]:
    """Add the options of `Run` to a command, and hand them over as its argument `run`; threads are then as asked."""

    @wraps(command)
    def with_run(device: str, threads: int, note: str, out: Path | None, **others: Any) -> None:
        before = torch.get_num_threads()
        torch.set_num_threads(threads)
        try:
            command(run=Run(device, threads, note, out), **others)
        finally:
            torch.set_num_threads(before)

    wrapped: Callable[..., None] = with_run
    for option in (
        click.option("--out", type=click.Path(dir_okay=False, path_type=Path), help="A JSON file to write."),
        click.option("--note", default="", help="What else to know of the machine; kept in the file."),
        click.option("--threads", type=click.IntRange(1), default=1, show_default=True),
        click.option("--device", default="cpu", show_default=True),
    ):
        wrapped = option(wrapped)
    return wrapped


def machine() -> dict[str, Any]:
    """What times are of: the processor's name and its cores."""
    return {
        "processor": processor(),
        "cores": os.cpu_count(),
        "architecture": platform.machine(),
        "system": platform.system(),
    }


def load() -> float | None:
    """Processes that want to run, averaged over a minute; None where the system does not say."""
    return round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None


def device_name(device: str) -> str:
    """A GPU's name, or the word for any other device."""
    return torch.cuda.get_device_name(device) if _on_gpu(device) else device


def _on_gpu(device: str) -> bool:
    return torch.device(device).type == "cuda"


def versions_of(*packages: str) -> dict[str, str]:
    """Versions of Python and of the packages that are installed."""
    found = {"python": platform.python_version()}
    for name in packages:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def seconds(work: Callable[[], object], on: Tensor | None = None) -> float:
    """Time a piece of work to its end.

    On a GPU, where `on` lies, by the clock on the wall, and on a processor the seconds that it worked for this process:
    other work on the machine is not in them.
    """
    waits = on is not None and on.is_cuda
    clock = time.perf_counter if waits else time.process_time
    start = clock()
    work()
    if waits:
        torch.cuda.synchronize()
    return clock() - start


def rounds_of(take: Callable[[], Round], repeats: int) -> list[Round]:
    """Take rounds after one that warms up and does not count."""
    return [take() for _ in range(repeats + 1)][1:]


def median_ms(rounds: Sequence[Round], name: str) -> float:
    """Median milliseconds of one way."""
    return round(1e3 * statistics.median(taken[name] for taken in rounds), 1)


def median_ratio(rounds: Sequence[Round], top: str, bottom: str) -> float:
    """Median over the rounds of one way's time by another's, which a slow minute of the machine leaves alone."""
    return round(statistics.median(taken[top] / taken[bottom] for taken in rounds), 3)


def spread(rounds: Sequence[Round], top: str, bottom: str) -> list[float]:
    """Lowest and highest of the ratios within rounds."""
    found = [taken[top] / taken[bottom] for taken in rounds]
    return [round(min(found), 3), round(max(found), 3)]


def ratios(rounds: Sequence[Round], *pairs: tuple[str, str]) -> dict[str, Any]:
    """`<top>_over_<bottom>`, the median ratio of each pair of ways, and `<top>_over_<bottom>_spread`."""
    found: dict[str, Any] = {}
    for top, bottom in pairs:
        found[f"{top}_over_{bottom}"] = median_ratio(rounds, top, bottom)
        found[f"{top}_over_{bottom}_spread"] = spread(rounds, top, bottom)
    return found


def random_batch(size: int, count: int, device: torch.device | str = "cpu") -> Batch:
    """Images of noise, each with a box and a square mask in it; the time does not depend on what they show."""
    generator = torch.Generator().manual_seed(0)
    images = torch.rand((count, 3, size, size), generator=generator)
    masks = torch.zeros((count, 1, size, size))
    masks[..., size // 4 : size // 2, size // 4 : size // 2] = 1
    boxes = torch.tensor([[size / 4, size / 4, size / 2, size / 2]]).repeat(count, 1)
    return images.to(device), boxes.to(device), masks.to(device)


def batch_loss(model: nn.Module, batch: Batch) -> Tensor:
    """The plain loss of a batch, summed over its samples."""
    images, boxes, masks = batch
    return plain_loss(input_logits(low_res_logits(model, images, boxes), images.shape[-1]), masks).sum()


def plain_backward(model: nn.Module, batch: Batch) -> None:
    """Forward and backward, gradients of all parameters: a training step without its optimiser."""
    model.zero_grad(set_to_none=True)
    batch_loss(model, batch).backward()
