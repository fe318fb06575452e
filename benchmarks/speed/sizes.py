"""The encoder's time by what is left of it (`python -m ...benchmarks.speed.sizes`).

Neurons in multiples: at one level, cut with neurons going 1, 8, 16 and 32 at a time; all encoders run in turn, and the
ratios count, beside how many neurons stay in each block, which grouping rounds. And latency as it is predicted: block
times are measured once, and what they say of cuts is held against those cuts, each in turn with the whole encoder.
"""

import tempfile
from collections.abc import Sequence
from functools import partial
from typing import Any

import click
import torch
from torch import Tensor, nn

from ...models.families import blocks_of, encoder_of, geometry_of
from ...models.precision import computing
from ...models.segment_anything import build_sam
from ...pruning.block_times import block_times
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

MULTIPLES = (1, 8, 16, 32)
PREDICTED = ("h20_m20", "h40_m30", "h50_m70", "h70_m70", "h70_m95")


@click.command()
@timing_options
@click.option("--level", default="h50_m69", show_default=True, help="One that leaves no round number of neurons.")
@click.option("--predicted", default=",".join(PREDICTED), show_default=True, help="Levels whose time is predicted.")
@click.option("--precision", help="fp32, tf32 or bf16.  [default: of the device]")
@recorded
def command(
    model: str,
    image_size: int | None,
    batch_size: int,
    repeats: int,
    level: str,
    predicted: str,
    precision: str | None,
    run: Run,
) -> None:
    """Print the encoder's time for each multiple, and predicted beside measured time at each level, as JSON."""
    whole = build_sam(model, run.device, image_size=image_size).eval()
    size = geometry_of(whole).image_size
    images = random_batch(size, batch_size, run.device)[0]
    with computing(precision, run.device) as used:
        about = {"precision": used, "model": model, "image_size": size, "level": level, "batch_size": batch_size}
        run.record(
            "sizes",
            {**about, "repeats": repeats},
            lambda: {
                "multiples": multiples(whole, level, images, repeats),
                "predicted": predictions(whole, predicted.split(","), batch_size, repeats),
            },
        )


def multiples(whole: nn.Module, level: str, images: Tensor, repeats: int) -> dict[str, Any]:
    """Cut a model in each multiple and time the encoders in turn."""
    cut = {
        size: prune(whole, plan(whole, level, "magnitude", protect=0, mlp_group_size=size)).eval() for size in MULTIPLES
    }
    with torch.no_grad():
        works = {str(size): partial(encoder_of(model), images) for size, model in cut.items()}
        rounds = rounds_of(lambda: {size: seconds(work, images) for size, work in works.items()}, repeats)
    first = str(MULTIPLES[0])
    return {
        str(size): {
            "neurons": [block.neurons for block in blocks_of(model)],
            "ms": median_ms(rounds, str(size)),
            "to_size_1": median_ratio(rounds, str(size), first),
            "to_size_1_spread": spread(rounds, str(size), first),
        }
        for size, model in cut.items()
    }


def predictions(whole: nn.Module, levels: Sequence[str], batch_size: int, repeats: int) -> dict[str, Any]:
    """Measure block times once, and hold what they say of each level against that cut, as `CheckedTime` has it."""
    with tempfile.TemporaryDirectory() as place:
        times = block_times(whole, batch=batch_size, rounds=repeats, cache_dir=place, progress=False)
    found = {}
    for level in levels:
        cut = plan(whole, level, "magnitude", protect=0)
        checked = times.check(whole, prune(whole, cut).eval(), cut, repeats)
        found[level] = {name: round(value, 4) for name, value in checked.to_dict().items()}
    return found


if __name__ == "__main__":
    command()
