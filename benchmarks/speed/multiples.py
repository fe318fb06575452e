"""Neurons in multiples: the encoder's time by `mlp_group_size` (`python -m ...benchmarks.speed.multiples`).

One level, cut with neurons going 1, 8, 16 and 32 at a time; all encoders run in turn, in one run. The ratios count,
beside how many neurons stay in each block, which grouping rounds.
"""

import json
from functools import partial
from pathlib import Path
from typing import Any

import click
import torch
from torch import Tensor, nn

from ..._support.files import write_json_atomic
from ...models.families import blocks_of, encoder_of, geometry_of
from ...models.precision import computing
from ...models.segment_anything import build_sam
from ...pruning.planning import plan
from ...pruning.surgery import prune
from .timed import median_ms, median_ratio, random_batch, rounds_of, seconds, timing_options

SIZES = (1, 8, 16, 32)


@click.command()
@timing_options
@click.option("--level", default="h50_m69", show_default=True, help="One that leaves no round number of neurons.")
@click.option("--precision", help="fp32, tf32 or bf16.  [default: of the device]")
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), help="A JSON file to write.")
def command(
    model: str,
    image_size: int | None,
    batch_size: int,
    repeats: int,
    device: str,
    level: str,
    precision: str | None,
    out: Path | None,
) -> None:
    """Print milliseconds of the encoder for each size, its ratio to size 1, and the neurons that stay, as JSON."""
    whole = build_sam(model, device, image_size=image_size).eval()
    images = random_batch(geometry_of(whole).image_size, batch_size, device)[0]
    with computing(precision, device) as used:
        found = measure(whole, level, images, repeats)
    on_gpu = torch.device(device).type == "cuda"
    about = {"device": torch.cuda.get_device_name(device) if on_gpu else device, "precision": used}
    result = {**about, "model": model, "level": level, "threads": torch.get_num_threads(), "sizes": found}
    if out is not None:
        write_json_atomic(out, result)
    click.echo(json.dumps(result, indent=1))


def measure(whole: nn.Module, level: str, images: Tensor, repeats: int) -> dict[int, dict[str, Any]]:
    """Cut a model at each size and time the encoders in turn."""
    cut = {size: prune(whole, plan(whole, level, "magnitude", protect=0, mlp_group_size=size)).eval() for size in SIZES}
    with torch.no_grad():
        works = {str(size): partial(encoder_of(model), images) for size, model in cut.items()}
        rounds = rounds_of(lambda: {size: seconds(work, images) for size, work in works.items()}, repeats)
    return {
        size: {
            "neurons": [block.neurons for block in blocks_of(model)],
            "ms": median_ms(rounds, str(size)),
            "to_size_1": median_ratio(rounds, str(size), str(SIZES[0])),
        }
        for size, model in cut.items()
    }


if __name__ == "__main__":
    command()
