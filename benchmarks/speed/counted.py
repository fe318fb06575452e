"""What a processor can count of the work, whatever runs it later (`python -m ...benchmarks.speed.counted`).

Floating-point operations of each step beside those of a forward and backward pass of one image, and of a correction of
one model and of several together, on the pocket pair's adapted model; how large the streams of a correction are for a
ViT-B at 1024 px; and how many calibrations, corrections, evaluations and interventions `medcore-bench baselines --full`
asks for, with the bytes of its statistics. No time is taken: counts are the same on every machine.
"""

import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import click
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from ...calibration.collector import Need
from ...calibration.estimate import bytes_on_disk
from ...correction.correct import TOGETHER, Corrector
from ...correction.run import state_shapes
from ...correction.settings import CorrectionSettings
from ...correction.streams import bytes_of
from ...models.families import blocks_of, geometry_of
from ...models.segment_anything import build_sam
from ...pruning.planning import make_plan
from ...pruning.surgery import prune
from ...zoo import pocket
from ..experiments.amount import amount
from ..runner.methods import choose_methods
from ..runner.settings import COUNTS, Settings
from .timed import Run, recorded
from .workflow import TRAINING, drawn, steps_of

SETS, TEST_IMAGES = 3, 100
"""Data sets of the full comparison that is counted, and test images of each."""
_LEVEL = "h50_m70"
# work of no network's: reading, tables, graphs of another program
_NO_FLOPS = ("metrics", "export to ONNX", "encoder, ONNX", "score and plan", "cut")


@click.command()
@click.option("--images", type=click.IntRange(1), default=4, show_default=True, help="As many, and twice as many.")
@recorded
def command(images: int, run: Run) -> None:
    """Print the operations of each step, the streams of a correction and the work of a full comparison, as JSON."""
    model = pocket("adapted")
    about = {"model": "pocket", "image_size": geometry_of(model).image_size, "level": _LEVEL}
    run.record("counted", about, lambda: {**operations(model, images), "streams": streams(), "full": full()})


def operations(model: nn.Module, images: int = 4) -> dict[str, Any]:
    """Count operations, each image's by the difference between twice as many images and as many.

    `steps`: by name `over_training`, an image's operations over those of a forward and backward pass, and
    `fixed_over_training`, what there is whatever the number of images; `correction_together`, the same of a correction
    of `TOGETHER` models of one teacher, an image and model.
    """
    few, many = (_of_steps(model, count) for count in (images, 2 * images))
    unit = few[TRAINING] / images
    steps = {name: _told(few[name], many[name], images, unit) for name in few}
    one, two = (_together(model, count) / TOGETHER for count in (images, 2 * images))
    return {"steps": steps, "correction_together": _told(one, two, images, unit), "together": TOGETHER}


def _told(few: float, many: float, images: int, unit: float) -> dict[str, float]:
    each = (many - few) / images
    return {
        "over_training": round(each / unit, 3),
        "fixed_over_training": round((few - images * each) / unit, 3),
    }


def _of_steps(model: nn.Module, images: int) -> dict[str, int]:
    """Operations of all steps on as many images; of a training, a recovery and the encoder in batches of as many."""
    with tempfile.TemporaryDirectory() as folder:
        steps, _ = steps_of(model, images, images, Path(folder))
        counted = {}
        for number, (name, step) in enumerate(steps.items()):
            if name not in _NO_FLOPS:
                place = Path(folder) / str(number)
                counted[name] = _flops(partial(step.run, place)) * images // step.count
        model.zero_grad(set_to_none=True)
    return counted


def _together(teacher: nn.Module, images: int) -> int:
    data = drawn(images, geometry_of(teacher).image_size)
    corrector = Corrector(teacher, data, CorrectionSettings(), images, progress=False)
    smalls = [prune(teacher, make_plan(teacher, _LEVEL)) for _ in range(TOGETHER)]
    return _flops(lambda: corrector.correct_all(smalls))


def _flops(work: Callable[[], object]) -> int:
    with FlopCounterMode(display=False) as counter:
        work()
    return counter.get_total_flops()


def streams() -> dict[str, Any]:
    """Bytes of the streams of a full correction of ViT-B at 1024 px, and of one stream of an image."""
    model = build_sam("vit_b", device="meta")
    images = SETS * COUNTS["full"].correction
    shapes = state_shapes(model, images, CorrectionSettings(), TOGETHER)
    return {
        "model": "vit_b",
        "images": images,
        "models": TOGETHER,
        "gb": round(bytes_of(shapes) / 1e9, 2),
        "mb_an_image_and_stream": round(bytes_of(shapes) / len(shapes) / images / 1e6, 2),
        "blocks": len(blocks_of(model)),
    }


def full() -> dict[str, Any]:
    """How often `baselines --full` of all methods and levels does what, on `SETS` sets of `TEST_IMAGES` test images."""
    counts = COUNTS["full"]
    settings = Settings(Path("unused"), counts)
    methods = choose_methods(settings)
    inputs: Any = SimpleNamespace(sets={f"set {number}": range(TEST_IMAGES) for number in range(SETS)})
    work = amount(methods, inputs, settings, [])
    needs = frozenset[Need]().union(*(method.needs for method in methods))
    return {
        "methods": len(methods),
        "levels": len(settings.levels),
        "calibrated_samples": 2 * SETS * counts.calibration,
        "statistics_gb": round(bytes_on_disk(build_sam("vit_b", device="meta"), needs, datasets=SETS) / 1e9, 1),
        "corrected_plans": work.corrected,
        "corrected_images": work.corrected * SETS * counts.correction,
        "evaluated_plans": work.plans + work.corrected,
        "evaluated_images": work.predictions,
        # heads and as many neurons, zeroed and reset
        "interventions": 2 * 2 * counts.exact_units * counts.exact_images * SETS,
    }


if __name__ == "__main__":
    command()
