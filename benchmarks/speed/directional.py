"""Time, memory and storage of directional statistics beside the diagonal Fisher: `python -m ...speed.directional`.

The same batch through the same model, in turn, in one run: a plain forward and backward pass, then the same hooks with
the collectors of the diagonal Fisher, of the zero direction, of both directions, and of the Gram matrices, with both
losses each. The ratios are what counts: all share the machine and its load.
"""

import math
from collections.abc import Sequence
from functools import partial
from typing import Any

import click
from torch import nn

from ...calibration.collector import LOSSES, get_collector, stored_shapes
from ...calibration.sums import Accumulator
from ...evaluation.memory import measured
from ...models.families import geometry_of
from ...models.segment_anything import build_sam
from .timed import (
    Batch,
    Run,
    median_ms,
    plain_backward,
    random_batch,
    ratios,
    recorded,
    rounds_of,
    seconds,
    timing_options,
)

WAYS: dict[str, tuple[str, ...]] = {
    "diagonal": ("fisher",),
    "zero": ("directional_zero",),
    "directional": ("directional_zero", "directional_reset"),
    "gram": ("gram",),
}


@click.command()
@timing_options
@recorded
def command(model: str, image_size: int | None, batch_size: int, repeats: int, run: Run) -> None:
    """Print milliseconds, peak and stored bytes of every way, and the ratios, as JSON."""
    adapted, reference = (build_sam(model, run.device, image_size=image_size, seed=seed) for seed in (0, 1))
    size = geometry_of(adapted).image_size
    about = {"model": model, "image_size": size, "batch_size": batch_size, "repeats": repeats}
    run.record("directional", about, lambda: measure(adapted, reference, batch_size, repeats))


def measure(model: nn.Module, reference: nn.Module, batch_size: int = 8, repeats: int = 7) -> dict[str, Any]:
    """Time every way in turn; `reference` is another model of the same shape, for the reset direction.

    `plain_ms`; `<way>_ms`, `<way>_peak_mb` and `<way>_stored_mb` of each of `WAYS`; of each but the diagonal
    `<way>_over_diagonal` for the time, and `_peak_over_diagonal` and `_stored_over_diagonal`.
    """
    batch = random_batch(geometry_of(model).image_size, batch_size, next(model.parameters()).device)
    rounds = rounds_of(partial(_round, model, reference, batch), repeats)
    result: dict[str, Any] = {f"{name}_ms": median_ms(rounds, name) for name in rounds[0]}
    peaks = {name: _peak_bytes(model, reference, batch, kinds) for name, kinds in WAYS.items()}
    stored = {name: stored_bytes(model, kinds) for name, kinds in WAYS.items()}
    for name in WAYS:
        result[f"{name}_peak_mb"] = round(peaks[name] / 1e6, 1)
        result[f"{name}_stored_mb"] = round(stored[name] / 1e6, 3)
    for name in list(WAYS)[1:]:
        result |= ratios(rounds, (name, "diagonal"))
        result[f"{name}_peak_over_diagonal"] = round(peaks[name] / peaks["diagonal"], 3)
        result[f"{name}_stored_over_diagonal"] = round(stored[name] / stored["diagonal"], 5)
    return result


def stored_bytes(model: nn.Module, kinds: Sequence[str]) -> int:
    """Bytes of the float32 sums that these collectors keep of one data set, whatever the number of images."""
    shapes = [shape for kind in kinds for shape in stored_shapes(get_collector(kind), LOSSES, model).values()]
    return 4 * sum(math.prod(shape) for shape in shapes)


def _round(model: nn.Module, reference: nn.Module, batch: Batch) -> dict[str, float]:
    taken = {"plain": seconds(partial(plain_backward, model, batch), batch[0])}
    model.zero_grad(set_to_none=True)
    for name, kinds in WAYS.items():
        # a real calibration allocates its sums once, before the first batch
        sums = Accumulator(model, kinds, reference=reference)
        taken[name] = seconds(partial(sums.add, *batch), batch[0])
    return taken


def _peak_bytes(model: nn.Module, reference: nn.Module, batch: Batch, kinds: Sequence[str]) -> int:
    with measured() as memory:
        Accumulator(model, kinds, reference=reference).add(*batch)
    return memory.peak_bytes


if __name__ == "__main__":
    command()
