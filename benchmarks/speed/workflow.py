"""What each step of compressing a model costs beside training it (`python -m ...benchmarks.speed.workflow`).

Seconds and memory of each step, and of the same model's training on the same machine: a forward and backward pass with
the gradients of all parameters. All steps take turns, round after round. Images are phantoms and weights are random,
neither of which decides the time. Then the encoder's forward pass, whole and pruned, in turn.
"""

import copy
import statistics
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import click
import torch
from torch import nn

from ...calibration.calibrate import calibrate
from ...checkpoints.onnx.export import export_onnx
from ...checkpoints.onnx.model import open_session
from ...correction.correct import correct
from ...data import phantoms
from ...data.samples import ArraySet, arrays
from ...evaluation.evaluate import evaluate
from ...evaluation.latency import compare_latency
from ...evaluation.memory import measured
from ...evaluation.metrics import evaluate_mask
from ...models.families import encoder_of, geometry_of
from ...models.predictor import Predictor
from ...models.segment_anything import build_sam
from ...models.switches import set_attention
from ...pruning.planning import make_plan, plan
from ...pruning.surgery import prune
from ...training.recover import recover
from ...training.settings import RecoverySettings
from .metrics import lesion_pair
from .timed import REPEATS, SHAPE, Batch, Run, plain_backward, random_batch, recorded, rounds_of, seconds, spread

LEVELS = ("h40_m30", "h50_m70", "h70_m95")
TRAINING = "training"
_STEPS = 6
_GRID = 256


@dataclass(frozen=True)
class Step:
    """A step of the work.

    Attributes:
        per: What its seconds are of: `image`, `model`, or `mask`.
        count: How many of these a run has.
        run: Does it; it may write into the folder that it is given.
        counted: Whether its memory is counted: a trace of an exporter does not bear that.
    """

    per: str
    count: int
    run: Callable[[Path], object]
    counted: bool = True


@click.command()
@click.option("--model", type=SHAPE, default="vit_b", show_default=True, help="Random weights.")
@click.option("--image-size", type=int, help="Input side in pixels.  [default: the model's own]")
@click.option("--images", type=click.IntRange(2), default=4, show_default=True, help="Images of every step.")
@click.option("--batch-size", type=click.IntRange(1), default=1, show_default=True)
@click.option("--attention", type=click.Choice(["segment-anything", "sdpa"]), default="sdpa", show_default=True)
@REPEATS
@recorded
def command(
    model: str, image_size: int | None, images: int, batch_size: int, attention: str, repeats: int, run: Run
) -> None:
    """Print seconds and peak bytes of every step, and their ratios to a training step's of an image, as JSON."""
    made = set_attention(build_sam(model, run.device, image_size=image_size), attention)
    about = {
        "model": model,
        "image_size": geometry_of(made).image_size,
        "attention": attention,
        "batch_size": batch_size,
        "images": images,
        "repeats": repeats,
    }
    run.record("workflow", about, lambda: measure(made, images, batch_size, repeats), "onnx", "onnxruntime")


def measure(model: nn.Module, images: int = 4, batch_size: int = 1, repeats: int = 3) -> dict[str, Any]:
    """Time every step on a whole model, which is left as it is.

    `steps`: by name, median seconds, `per` what, peak bytes, `ratio` of the seconds to those of `training` of one
    image, with the lowest and highest in `ratio_spread`; `left_out`, a step to why it is; `latency_ms` and
    `latency_ratio` of the encoder's forward pass by level, `whole` being the unpruned one's.
    """
    device = next(model.parameters()).device
    with tempfile.TemporaryDirectory() as folder:
        steps, left_out = steps_of(model, images, batch_size, Path(folder))
        # once to count memory, and to warm up
        peaks = {name: _peak(step, device) for name, step in steps.items() if step.counted}
        rounds = rounds_of(lambda: {name: _seconds(step, device) for name, step in steps.items()}, repeats)
    model.zero_grad(set_to_none=True)
    whole = {"whole": model, **{level: prune(model, make_plan(model, level)) for level in LEVELS}}
    latency = {name: found.median_ms for name, found in compare_latency(whole, batch=batch_size).items()}
    return {
        "steps": {
            name: {
                "seconds": round(statistics.median(taken[name] for taken in rounds), 5),
                "per": step.per,
                "peak_mb": round(peaks[name] / 1e6, 1) if name in peaks else None,
                "ratio": round(statistics.median(taken[name] / taken[TRAINING] for taken in rounds), 3),
                "ratio_spread": spread(rounds, name, TRAINING),
            }
            for name, step in steps.items()
        },
        "left_out": left_out,
        "latency_ms": {name: round(found, 2) for name, found in latency.items()},
        "latency_ratio": {name: round(found / latency["whole"], 3) for name, found in latency.items()},
    }


def steps_of(model: nn.Module, images: int, batch_size: int, folder: Path) -> tuple[dict[str, Step], dict[str, str]]:
    """Every step on as many images, in the order of the work, and those that cannot run here, with the reason."""
    size, device = geometry_of(model).image_size, next(model.parameters()).device
    data = drawn(images, size)
    batch = random_batch(size, batch_size, device)
    made_plan = make_plan(model, "h50_m70")
    small = prune(model, made_plan)
    kept = calibrate(model, data=data, needs=["fisher"], cache_dir=folder, batch_size=batch_size, progress=False)
    settings = RecoverySettings(steps=_STEPS, batch_size=batch_size, validate_every=0)
    masks = [lesion_pair(seed, _GRID) for seed in range(images)]
    steps = {
        TRAINING: Step("image", batch_size, lambda _: plain_backward(model, batch)),
        "encoder": Step("image", batch_size, lambda _: _encoded(model, batch)),
        "fisher, both losses": Step("image", images, lambda place: _sums(model, data, place, batch_size, "fisher")),
        "directional, both losses": Step(
            "image", images, lambda place: _sums(model, data, place, batch_size, "directional_zero")
        ),
        "score and plan": Step("model", 1, lambda _: plan(model, "h50_m70", "zero_fisher", statistics=kept)),
        "cut": Step("model", 1, lambda _: prune(model, made_plan)),
        "correction": Step(
            "image",
            images,
            lambda _: correct(copy.deepcopy(small), model, data, batch_size=batch_size, progress=False),
        ),
        "recovery": Step(
            "image",
            _STEPS * batch_size,
            lambda _: recover(copy.deepcopy(small), model, data, settings, progress=False),
        ),
        "evaluation": Step("image", images, lambda _: evaluate(model, data, batch_size=batch_size, progress=False)),
        "metrics": Step("mask", images, lambda _: [evaluate_mask(*pair) for pair in masks]),
        "prediction, 1 box": Step("image", 1, partial(_predicted, model, data, 1)),
        "prediction, 5 boxes": Step("image", 1, partial(_predicted, model, data, 5)),
    }
    if device.type != "cpu":
        return steps, {"export to ONNX": "runs on the processor", "encoder, ONNX": "runs on the processor"}
    if missing := [name for name in ("onnx", "onnxruntime") if not find_spec(name)]:
        return steps, dict.fromkeys(("export to ONNX", "encoder, ONNX"), f"not installed: {', '.join(missing)}")
    export_onnx(model, folder / "encoder.onnx", "encoder")
    session = open_session(folder / "encoder.onnx", torch.get_num_threads())
    given = {"image": batch[0].numpy()}
    steps["export to ONNX"] = Step(
        "model", 1, lambda place: export_onnx(model, place / "encoder.onnx", "encoder"), counted=False
    )
    steps["encoder, ONNX"] = Step("image", batch_size, lambda _: session.run(None, given))
    return steps, {}


def drawn(images: int, size: int) -> dict[str, ArraySet]:
    """Phantoms in memory: drawing them takes longer than a GPU takes to calibrate on them."""
    made = list(phantoms.make("phantom_polyp_a", count=images, size=size))
    return {"phantoms": arrays("phantoms", [each.image for each in made], [each.mask for each in made])}


def _sums(model: nn.Module, data: Mapping[str, Any], place: Path, batch_size: int, need: str) -> None:
    calibrate(model, data=data, needs=[need], cache_dir=place, batch_size=batch_size, progress=False)


@torch.no_grad()
def _encoded(model: nn.Module, batch: Batch) -> None:
    encoder_of(model)(batch[0])


def _predicted(model: nn.Module, data: Mapping[str, ArraySet], boxes: int, _place: Path) -> None:
    sample = data["phantoms"][0]
    Predictor(model).set_image(sample.image).predict([sample.box] * boxes)


def _seconds(step: Step, device: torch.device) -> float:
    """Seconds an image, a model or a mask, in a folder of its own, so that nothing is found again."""
    with tempfile.TemporaryDirectory() as folder:
        on = torch.empty(0, device=device)
        return seconds(partial(step.run, Path(folder)), on) / step.count


def _peak(step: Step, device: torch.device) -> int:
    with tempfile.TemporaryDirectory() as folder:
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)
            step.run(Path(folder))
            torch.cuda.synchronize(device)
            # the weights count, which were there before
            return int(torch.cuda.max_memory_allocated(device))
        with measured() as cost:
            step.run(Path(folder))
        return cost.peak_bytes


if __name__ == "__main__":
    command()
