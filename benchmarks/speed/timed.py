"""What the timings share: one batch of noise, a training step on it, a clock, medians, and the options of commands."""

import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

import click
import torch
from torch import Tensor, nn

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
        click.option("--device", default="cpu", show_default=True),
        REPEATS,
        click.option("--batch-size", type=click.IntRange(1), default=8, show_default=True),
        click.option("--image-size", type=int, help="Input side in pixels.  [default: the model's own]"),
        click.option("--model", type=SHAPE, default="pocket", show_default=True, help="Random weights."),
    ):
        command = option(command)
    return command


def seconds(work: Callable[[], object], on: Tensor) -> float:
    """Time a piece of work to its end, on the device of a tensor."""
    start = time.perf_counter()
    work()
    if on.is_cuda:
        torch.cuda.synchronize()
    return time.perf_counter() - start


def rounds_of(take: Callable[[], Round], repeats: int) -> list[Round]:
    """Take rounds after one that warms up and does not count."""
    return [take() for _ in range(repeats + 1)][1:]


def median_ms(rounds: Sequence[Round], name: str) -> float:
    """Median milliseconds of one way."""
    return round(1e3 * statistics.median(taken[name] for taken in rounds), 1)


def median_ratio(rounds: Sequence[Round], top: str, bottom: str) -> float:
    """Median over the rounds of one way's time by another's, which a slow minute of the machine leaves alone."""
    return round(statistics.median(taken[top] / taken[bottom] for taken in rounds), 3)


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
