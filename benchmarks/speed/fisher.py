"""Time and memory of the batched Fisher beside what one would otherwise do (`python -m ...benchmarks.speed.fisher`).

Four ways through the same images of the same model, in turn, in one run: plain forward and backward of the batch (what
a training step costs), the batched Fisher for one loss and for both, and the loop that runs one sample at a time and
squares autograd's gradients. The ratios are what counts: all share the machine and its load.
"""

import json
from collections.abc import Callable
from functools import partial

import click
import torch
from torch import Tensor, nn

from ...calibration.collector import LOSSES, prunable_layers
from ...calibration.sums import Accumulator
from ...evaluation.memory import measured
from ...models.families import geometry_of
from ...models.segment_anything import build_sam
from .timed import (
    Batch,
    batch_loss,
    median_ms,
    median_ratio,
    plain_backward,
    random_batch,
    rounds_of,
    seconds,
    timing_options,
)

Way = Callable[[nn.Module, Batch], object]


@click.command()
@timing_options
def command(model: str, image_size: int | None, batch_size: int, repeats: int, device: str) -> None:
    """Print milliseconds and peak bytes a batch of every way, and the ratios, as JSON."""
    sam = build_sam(model, device, image_size=image_size)
    click.echo(json.dumps(measure(sam, batch_size, repeats), indent=1))


def measure(model: nn.Module, batch_size: int = 8, repeats: int = 7) -> dict[str, float]:
    """Time every way in turn.

    `<way>_ms` and `<way>_peak_mb` of each of `WAYS`; `one_loss_over_plain` and `both_losses_over_plain`, what the
    Fisher costs beside a training step; `loop_over_one_loss`, how much faster the batch is than the loop.
    """
    batch = random_batch(geometry_of(model).image_size, batch_size, next(model.parameters()).device)
    rounds = rounds_of(
        lambda: {name: seconds(partial(way, model, batch), batch[0]) for name, way in WAYS.items()}, repeats
    )
    result = {f"{name}_ms": median_ms(rounds, name) for name in WAYS}
    for name, way in WAYS.items():
        with measured() as memory:
            way(model, batch)
        result[f"{name}_peak_mb"] = round(memory.peak_bytes / 1e6, 1)
    ratios = (("one_loss", "plain"), ("both_losses", "plain"), ("loop", "one_loss"))
    for top, bottom in ratios:
        result[f"{top}_over_{bottom}"] = median_ratio(rounds, top, bottom)
    return result


def batched_fisher(model: nn.Module, batch: Batch, losses: tuple[str, ...]) -> dict[str, Tensor]:
    """Squares of every sample's gradient, by hooks; the sums are allocated beforehand in a real calibration."""
    model.zero_grad(set_to_none=True)
    sums = Accumulator(model, losses=losses)
    sums.add(*batch)
    return sums.sums["fisher"]


def loop_fisher(model: nn.Module, batch: Batch) -> dict[str, Tensor]:
    """The obvious way: one sample at a time, autograd's weight gradients of the prunable layers, squared and added."""
    layers = prunable_layers(model)
    parameters = {f"{name}.{kind}": p for name, layer in layers.items() for kind, p in layer.named_parameters()}
    squares = {name: torch.zeros_like(p) for name, p in parameters.items()}
    for index in range(len(batch[0])):
        one = (batch[0][index : index + 1], batch[1][index : index + 1], batch[2][index : index + 1])
        gradients = torch.autograd.grad(batch_loss(model, one), list(parameters.values()))
        for square, gradient in zip(squares.values(), gradients, strict=True):
            square.addcmul_(gradient, gradient)
    return squares


WAYS: dict[str, Way] = {
    "plain": plain_backward,
    "one_loss": lambda model, batch: batched_fisher(model, batch, LOSSES[:1]),
    "both_losses": lambda model, batch: batched_fisher(model, batch, LOSSES),
    "loop": loop_fisher,
}


if __name__ == "__main__":
    command()
