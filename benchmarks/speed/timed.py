"""What the timings share: one batch of noise, a training step on it, a clock, and the options of their commands."""

import time
from collections.abc import Callable
from typing import Any

import click
import torch
from torch import Tensor, nn

from ...models.losses import plain_loss
from ...models.protocol import input_logits, low_res_logits
from ...models.sam_shape import SHAPES

Batch = tuple[Tensor, Tensor, Tensor]


def timing_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options of a command that times ways through one batch."""
    for option in (
        click.option("--device", default="cpu", show_default=True),
        click.option(
            "--repeats", type=click.IntRange(1), default=7, show_default=True, help="Rounds; the medians count."
        ),
        click.option("--batch-size", type=click.IntRange(1), default=8, show_default=True),
        click.option("--image-size", type=int, help="Input side in pixels.  [default: the model's own]"),
        click.option(
            "--model", type=click.Choice(list(SHAPES)), default="pocket", show_default=True, help="Random weights."
        ),
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
