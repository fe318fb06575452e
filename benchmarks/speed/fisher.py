"""Time and memory of the batched Fisher beside what one would otherwise do (`python -m ...benchmarks.speed.fisher`).

Ways through the same images of the same model, in turn, in one run: plain forward and backward of the batch (what a
training step costs), the batched Fisher for one loss and for both, the loop that runs one sample at a time and squares
autograd's gradients, and, where it is installed (`pip install --no-deps opacus`), Opacus's per-sample gradients. The
ratios are what counts: all share the machine and its load.
"""

import copy
import warnings
from collections.abc import Callable, Mapping
from functools import partial
from importlib.util import find_spec
from typing import Any

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
    Run,
    batch_loss,
    median_ms,
    plain_backward,
    random_batch,
    ratios,
    recorded,
    rounds_of,
    seconds,
    timing_options,
)

Way = Callable[[nn.Module, Batch], object]


@click.command()
@timing_options
@recorded
def command(model: str, image_size: int | None, batch_size: int, repeats: int, run: Run) -> None:
    """Print milliseconds and peak bytes a batch of every way, and the ratios, as JSON."""
    sam = build_sam(model, run.device, image_size=image_size)
    about = {"model": model, "image_size": geometry_of(sam).image_size, "batch_size": batch_size, "repeats": repeats}
    run.record("fisher", about, lambda: measure(sam, batch_size, repeats), OPACUS)


def measure(model: nn.Module, batch_size: int = 8, repeats: int = 7) -> dict[str, Any]:
    """Time every way in turn.

    `<way>_ms` and `<way>_peak_mb` of each of `WAYS`, and of `opacus` unless `left_out` says why not;
    `one_loss_over_plain` and `both_losses_over_plain`, what the Fisher costs beside a training step;
    `loop_over_one_loss` and `opacus_over_one_loss`, how much faster the batch is than other ways to the same sums; with
    the lowest and highest of each.
    """
    batch = random_batch(geometry_of(model).image_size, batch_size, next(model.parameters()).device)
    works: dict[str, Callable[[], object]] = {name: partial(way, model, batch) for name, way in WAYS.items()}
    pairs = [("one_loss", "plain"), ("both_losses", "plain"), ("loop", "one_loss")]
    left_out = {} if find_spec(OPACUS) else {OPACUS: "not installed"}
    if not left_out:
        works[OPACUS] = partial(opacus_fisher(model), batch)
        pairs.append((OPACUS, "one_loss"))
    rounds = rounds_of(lambda: {name: seconds(work, batch[0]) for name, work in works.items()}, repeats)
    result: dict[str, Any] = {f"{name}_ms": median_ms(rounds, name) for name in works}
    for name, work in works.items():
        with measured() as memory:
            work()
        result[f"{name}_peak_mb"] = round(memory.peak_bytes / 1e6, 1)
    return {**result, **ratios(rounds, *pairs), "left_out": left_out}


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


def opacus_fisher(model: nn.Module) -> Callable[[Batch], Mapping[str, Tensor]]:
    """The same squares by Opacus's `GradSampleModule`, on a copy of which the prunable layers alone have gradients.

    Layers within windows read windows in the place of images, so that Opacus tells the gradient of each window; those
    of one image are added up before they are squared.
    """
    from opacus import GradSampleModule

    copied = copy.deepcopy(model)
    layers = prunable_layers(copied)
    parameters = {f"{name}.{kind}": p for name, layer in layers.items() for kind, p in layer.named_parameters()}
    copied.requires_grad_(False)
    for parameter in parameters.values():
        parameter.requires_grad_(True)
    # Opacus listens to modules in training mode; a SAM's has no layer that is another one in it
    watched = GradSampleModule(_Loss(copied), loss_reduction="sum", strict=False).train()

    def squares(batch: Batch) -> dict[str, Tensor]:
        with warnings.catch_warnings():
            # of the first layer, which reads what needs no gradient
            warnings.filterwarnings("ignore", message="Full backward hook is firing", category=UserWarning)
            watched(*batch).backward()
        found = {}
        for name, parameter in parameters.items():
            of_windows: Tensor = parameter.grad_sample  # type: ignore[attr-defined]
            found[name] = of_windows.unflatten(0, (len(batch[0]), -1)).sum(1).square().sum(0)
        watched.zero_grad(set_to_none=True)
        return found

    return squares


class _Loss(nn.Module):
    """A model with its loss."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, *batch: Tensor) -> Tensor:
        """The plain loss of images, boxes and masks, summed over samples."""
        images, boxes, masks = batch
        return batch_loss(self.model, (images, boxes, masks))


OPACUS = "opacus"
WAYS: dict[str, Way] = {
    "plain": plain_backward,
    "one_loss": lambda model, batch: batched_fisher(model, batch, LOSSES[:1]),
    "both_losses": lambda model, batch: batched_fisher(model, batch, LOSSES),
    "loop": loop_fisher,
}


if __name__ == "__main__":
    command()
