"""Time and memory of the batched Fisher beside what one would otherwise do (`python -m ...benchmarks.speed.fisher`).

Four ways through the same images of the same model, in turn, in one run: plain forward and backward of the batch (what
a training step costs), the batched Fisher for one loss and for both, and the loop that runs one sample at a time and
squares autograd's gradients. The ratios are what counts: all share the machine and its load.
"""

import json
import statistics
import time
from collections.abc import Callable

import click
import torch
from torch import Tensor, nn

from ...calibration.collector import prunable_layers
from ...calibration.sums import BOTH_LOSSES, Accumulator
from ...evaluation.memory import measured
from ...models.families import geometry_of
from ...models.losses import plain_loss
from ...models.protocol import input_logits, low_res_logits
from ...models.sam_shape import SHAPES
from ...models.segment_anything import build_sam

Batch = tuple[Tensor, Tensor, Tensor]
Way = Callable[[nn.Module, Batch], object]


@click.command()
@click.option("--model", type=click.Choice(list(SHAPES)), default="pocket", show_default=True, help="Random weights.")
@click.option("--image-size", type=int, help="Input side in pixels.  [default: the model's own]")
@click.option("--batch-size", type=click.IntRange(1), default=8, show_default=True)
@click.option("--repeats", type=click.IntRange(1), default=7, show_default=True, help="Rounds; the medians count.")
@click.option("--device", default="cpu", show_default=True)
def command(model: str, image_size: int | None, batch_size: int, repeats: int, device: str) -> None:
    """Print milliseconds and peak bytes a batch of every way, and the ratios, as JSON."""
    sam = build_sam(model, device, image_size=image_size)
    click.echo(json.dumps(measure(sam, batch_size, repeats), indent=1))


def measure(model: nn.Module, batch_size: int = 8, repeats: int = 7) -> dict[str, float]:
    """Time every way in turn.

    Args:
        model: A `Sam`.
        batch_size: Images in the batch.
        repeats: Rounds after one to warm up; ratios are medians over rounds, each of neighbouring runs.

    Returns:
        `<way>_ms` and `<way>_peak_mb` of each of `WAYS`; `one_loss_over_plain` and `both_losses_over_plain`, what the
        Fisher costs beside a training step; `loop_over_one_loss`, how much faster the batch is than the loop.
    """
    batch = random_batch(geometry_of(model).image_size, batch_size, next(model.parameters()).device)
    rounds = [{name: _seconds(way, model, batch) for name, way in WAYS.items()} for _ in range(repeats + 1)][1:]
    result = {f"{name}_ms": round(1e3 * statistics.median(r[name] for r in rounds), 1) for name in WAYS}
    for name, way in WAYS.items():
        with measured() as memory:
            way(model, batch)
        result[f"{name}_peak_mb"] = round(memory.peak_bytes / 1e6, 1)
    ratios = (("one_loss", "plain"), ("both_losses", "plain"), ("loop", "one_loss"))
    for top, bottom in ratios:
        result[f"{top}_over_{bottom}"] = round(statistics.median(r[top] / r[bottom] for r in rounds), 3)
    return result


def random_batch(size: int, count: int, device: torch.device | str = "cpu") -> Batch:
    """Images of noise, each with a box and a square mask in it; the time does not depend on what they show."""
    generator = torch.Generator().manual_seed(0)
    images = torch.rand((count, 3, size, size), generator=generator)
    masks = torch.zeros((count, 1, size, size))
    masks[..., size // 4 : size // 2, size // 4 : size // 2] = 1
    boxes = torch.tensor([[size / 4, size / 4, size / 2, size / 2]]).repeat(count, 1)
    return images.to(device), boxes.to(device), masks.to(device)


def _loss(model: nn.Module, batch: Batch) -> Tensor:
    images, boxes, masks = batch
    return plain_loss(input_logits(low_res_logits(model, images, boxes), images.shape[-1]), masks).sum()


def plain_backward(model: nn.Module, batch: Batch) -> None:
    """Forward and backward, gradients of all parameters: a training step without its optimiser."""
    model.zero_grad(set_to_none=True)
    _loss(model, batch).backward()


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
        gradients = torch.autograd.grad(_loss(model, one), list(parameters.values()))
        for square, gradient in zip(squares.values(), gradients, strict=True):
            square.addcmul_(gradient, gradient)
    return squares


WAYS: dict[str, Way] = {
    "plain": plain_backward,
    "one_loss": lambda model, batch: batched_fisher(model, batch, BOTH_LOSSES[:1]),
    "both_losses": lambda model, batch: batched_fisher(model, batch, BOTH_LOSSES),
    "loop": loop_fisher,
}


def _seconds(way: Way, model: nn.Module, batch: Batch) -> float:
    start = time.perf_counter()
    way(model, batch)
    if batch[0].is_cuda:
        torch.cuda.synchronize()
    return time.perf_counter() - start


if __name__ == "__main__":
    command()
