"""Neurons in multiples: the encoder's time by `mlp_group_size` (`python -m ...benchmarks.speed.multiples`).

One level, cut with neurons going 1, 8, 16 and 32 at a time; all encoders run in turn, in one run. The ratios count,
beside how many neurons stay in each block, which grouping rounds.
"""

from functools import partial
from typing import Any

import click
import torch
from torch import Tensor, nn

from ...models.families import blocks_of, encoder_of, geometry_of
from ...models.precision import computing
from ...models.segment_anything import build_sam
from ...pruning.planning import plan
from ...pruning.surgery import prune
from .timed import (
    Run,
    median_ms,
    median_ratio,
    random_batch,
    recorded,
    rounds_of,
    seconds,
    spread,
    timing_options,
)

SIZES = (1, 8, 16, 32)


@click.command()
@timing_options
@click.option("--level", default="h50_m69", show_default=True, help="One that leaves no round number of neurons.")
@click.option("--precision", help="fp32, tf32 or bf16.  [default: of the device]")
@recorded
def command(
    model: str, image_size: int | None, batch_size: int, repeats: int, level: str, precision: str | None, run: Run
) -> None:
    """Print milliseconds of the encoder for each size, its ratio to size 1, and the neurons that stay, as JSON."""
    whole = build_sam(model, run.device, image_size=image_size).eval()
    size = geometry_of(whole).image_size
    images = random_batch(size, batch_size, run.device)[0]
    with computing(precision, run.device) as used:
        about = {"precision": used, "model": model, "image_size": size, "level": level, "batch_size": batch_size}
        run.record("multiples", {**about, "repeats": repeats}, lambda: measure(whole, level, images, repeats))


def measure(whole: nn.Module, level: str, images: Tensor, repeats: int) -> dict[str, Any]:
    """Cut a model at each size and time the encoders in turn: `sizes`."""
    cut = {size: prune(whole, plan(whole, level, "magnitude", protect=0, mlp_group_size=size)).eval() for size in SIZES}
    with torch.no_grad():
        works = {str(size): partial(encoder_of(model), images) for size, model in cut.items()}
        rounds = rounds_of(lambda: {size: seconds(work, images) for size, work in works.items()}, repeats)
    first = str(SIZES[0])
    sizes = {
        size: {
            "neurons": [block.neurons for block in blocks_of(model)],
            "ms": median_ms(rounds, str(size)),
            "to_size_1": median_ratio(rounds, str(size), first),
            "to_size_1_spread": spread(rounds, str(size), first),
        }
        for size, model in cut.items()
    }
    return {"sizes": sizes}


if __name__ == "__main__":
    command()
