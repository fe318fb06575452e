"""What each step of compressing a model costs beside training it (`python -m ...benchmarks.speed.workflow`).

Seconds and memory an image of calibration, correction, recovery and evaluation, and of the same model's training on the
same machine: a forward and backward pass with the gradients of all parameters. Images are phantoms and weights are
random, neither of which decides the time. Then the encoder's forward pass, whole and pruned, in turn.
"""

import copy
import json
import platform
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import torch
from torch import nn

from ..._support.files import write_json_atomic
from ...calibration.calibrate import calibrate
from ...correction.correct import correct
from ...data import phantoms
from ...data.samples import arrays
from ...evaluation.evaluate import evaluate
from ...evaluation.latency import compare_latency
from ...evaluation.memory import measured
from ...models.families import geometry_of
from ...models.segment_anything import build_sam
from ...models.switches import set_attention
from ...pruning.planning import make_plan
from ...pruning.surgery import prune
from ...training.recover import recover
from ...training.settings import RecoverySettings
from .timed import SHAPE, plain_backward, random_batch

LEVELS = ("h40_m30", "h50_m70", "h70_m95")
_STEPS = 6


@click.command()
@click.option("--model", type=SHAPE, default="vit_b", show_default=True, help="Random weights.")
@click.option("--image-size", type=int, help="Input side in pixels.  [default: the model's own]")
@click.option("--images", type=click.IntRange(2), default=4, show_default=True, help="Images of every step.")
@click.option("--batch-size", type=click.IntRange(1), default=1, show_default=True)
@click.option("--attention", type=click.Choice(["segment-anything", "sdpa"]), default="sdpa", show_default=True)
@click.option("--device", default="cpu", show_default=True)
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), help="A JSON file to write.")
def command(
    model: str, image_size: int | None, images: int, batch_size: int, attention: str, device: str, out: Path | None
) -> None:
    """Print seconds and peak bytes an image of every step, and their ratios to a training step, as JSON."""
    made = set_attention(build_sam(model, device, image_size=image_size), attention)
    result = {
        "device": torch.cuda.get_device_name() if device.startswith("cuda") else device,
        "machine": platform.machine(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "model": model,
        "image_size": geometry_of(made).image_size,
        "attention": attention,
        "batch_size": batch_size,
        "images": images,
        **measure(made, images, batch_size),
    }
    if out is not None:
        write_json_atomic(out, result)
    click.echo(json.dumps(result, indent=1))


def measure(model: nn.Module, images: int = 4, batch_size: int = 1) -> dict[str, Any]:
    """Time every step on a whole model, which is left as it is.

    `steps`: by name, seconds, peak bytes and `ratio` of the seconds to those of `training`, each an image;
    `latency_ms` and `latency_ratio` of the encoder's forward pass by level, `whole` being the unpruned one's.
    """
    size, device = geometry_of(model).image_size, next(model.parameters()).device
    drawn = list(phantoms.make("phantom_polyp_a", count=images, size=size))
    # in memory: drawing them takes longer than a GPU takes to calibrate on them
    data = {"phantoms": arrays("phantoms", [each.image for each in drawn], [each.mask for each in drawn])}
    small = prune(model, make_plan(model, "h50_m70"))
    batch = random_batch(size, batch_size, device)
    settings = RecoverySettings(steps=_STEPS, batch_size=batch_size, validate_every=0)
    each: dict[str, tuple[int, Callable[[Path], object]]] = {
        "training": (batch_size, lambda _: plain_backward(model, batch)),
        "fisher, both losses": (images, lambda place: _sums(model, data, place, batch_size, "fisher")),
        "directional, both losses": (images, lambda place: _sums(model, data, place, batch_size, "directional_zero")),
        "correction": (
            images,
            lambda _: correct(copy.deepcopy(small), model, data, batch_size=batch_size, progress=False),
        ),
        "recovery": (
            _STEPS * batch_size,
            lambda _: recover(copy.deepcopy(small), model, data, settings, progress=False),
        ),
        "evaluation": (images, lambda _: evaluate(model, data, batch_size=batch_size, progress=False)),
    }
    steps = {name: _measured(run, count, device) for name, (count, run) in each.items()}
    model.zero_grad(set_to_none=True)
    for found in steps.values():
        found["ratio"] = round(found["seconds"] / steps["training"]["seconds"], 3)
    models = {"whole": model, **{level: prune(model, make_plan(model, level)) for level in LEVELS}}
    latency = {name: found.median_ms for name, found in compare_latency(models, batch=batch_size).items()}
    return {
        "steps": steps,
        "latency_ms": {name: round(found, 2) for name, found in latency.items()},
        "latency_ratio": {name: round(found / latency["whole"], 3) for name, found in latency.items()},
    }


def _sums(model: nn.Module, data: dict[str, Any], place: Path, batch_size: int, need: str) -> None:
    calibrate(model, data=data, needs=[need], cache_dir=place, batch_size=batch_size, progress=False)


def _measured(run: Callable[[Path], object], count: int, device: torch.device) -> dict[str, float]:
    """Run once to warm up, and once to be timed; each in a folder of its own, so that nothing is found again."""
    with tempfile.TemporaryDirectory() as first, tempfile.TemporaryDirectory() as second:
        with measured() as cost:
            run(Path(first))
        if on_gpu := device.type == "cuda":
            torch.cuda.synchronize(device)
            torch.cuda.reset_peak_memory_stats(device)
        start = time.perf_counter()
        run(Path(second))
        if on_gpu:
            torch.cuda.synchronize(device)
        seconds = time.perf_counter() - start
        # on a GPU the weights count, which were there before
        peak = torch.cuda.max_memory_allocated(device) if on_gpu else cost.peak_bytes
    return {"seconds": round(seconds / count, 5), "peak_mb": round(peak / 1e6, 1)}


if __name__ == "__main__":
    command()
