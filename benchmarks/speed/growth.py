"""How cost grows with images, boxes, methods, levels and blocks (`python -m medcore_prune.benchmarks.speed.growth`).

Each axis is one piece of work at a few counts, on the pocket pair's adapted model (of random weights where blocks are
counted) and drawn images. All counts of all axes take turns with a forward and backward pass of one image, of which the
times are multiples; a line through the medians gives what one more costs, and what there is to pay whatever the count.
"""

import statistics
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import click
import numpy as np
from torch import nn

from ..._support.files import write_text_atomic
from ...calibration.calibrate import calibrate
from ...calibration.collector import Need
from ...correction.correct import Corrector
from ...correction.settings import CorrectionSettings
from ...data.samples import ArraySet
from ...evaluation.evaluate import evaluate
from ...models.families import geometry_of
from ...models.predictor import Predictor
from ...models.sam_shape import SHAPES, SamShape
from ...models.segment_anything import build_sam
from ...pruning.level import COMPARISON_LEVELS, Level
from ...pruning.planning import plan
from ...pruning.surgery import prune
from ...scoring.recipes import get_baseline
from ...zoo import pocket
from ..report.plots.growth import draw_growth
from ..report.plots.style import THEMES, svg, themed
from .timed import REPEATS, Round, Run, plain_backward, random_batch, recorded, rounds_of, seconds
from .workflow import drawn

METHODS = ("magnitude", "zero_fisher", "vanilla_fisher", "taylor")
IMAGES = 4
"""Of each piece of work whose images are not what is counted."""
_PASS = "forward and backward"


@dataclass(frozen=True)
class Axis:
    """What is counted, and the work at a count.

    Attributes:
        unit: What is counted, in the plural.
        counts: The counts that are timed.
        run: Does the work at a count; it may write into the folder that it is given.
    """

    unit: str
    counts: tuple[int, ...]
    run: Callable[[int, Path], object]


@click.command()
@REPEATS
@recorded
def command(repeats: int, run: Run) -> None:
    """Print the time of every axis at every count, and the slope of each, as JSON; a figure goes beside the file."""
    found: dict[str, Any] = {}

    def measured() -> dict[str, Any]:
        found.update(measure(pocket("adapted", run.device), SHAPES["pocket"], repeats))
        return found

    run.record("growth", {"model": "pocket", "image_size": 96, "repeats": repeats}, measured)
    if run.out is not None:
        with themed(THEMES["light"]):
            write_text_atomic(run.out.with_suffix(".svg"), svg(draw_growth(found["axes"])))


def measure(model: nn.Module, shape: SamShape, repeats: int = 3, most: int | None = None) -> dict[str, Any]:
    """Time every axis at its counts, the first `most` of them; the model, of a shape, is left as it is.

    `pass_ms`, of a forward and backward pass of one image; `axes`, by name: `unit`, `counts`, and in multiples of that
    pass the median `times`, the `spread` of each, `each` and `fixed` of the line through the medians, and `off`, how
    far the farthest lies from it, as a share of the longest.
    """
    first = next(model.parameters())
    batch = random_batch(geometry_of(model).image_size, 1, first.device)
    with tempfile.TemporaryDirectory() as folder:
        axes = axes_of(model, shape, Path(folder))
        counts = {name: list(axis.counts[:most]) for name, axis in axes.items()}

        def take() -> Round:
            taken = {_PASS: seconds(partial(plain_backward, model, batch), first)}
            model.zero_grad(set_to_none=True)
            for name, axis in axes.items():
                for count in counts[name]:
                    with tempfile.TemporaryDirectory() as place:
                        taken[f"{name} {count}"] = seconds(partial(axis.run, count, Path(place)), first)
            return taken

        rounds = rounds_of(take, repeats)
    return {
        "pass_ms": round(1e3 * statistics.median(taken[_PASS] for taken in rounds), 1),
        "axes": {
            name: {"unit": axes[name].unit, "counts": of, **_line(of, [_ratios(rounds, f"{name} {n}") for n in of])}
            for name, of in counts.items()
        },
    }


def _ratios(rounds: Sequence[Round], name: str) -> list[float]:
    return [taken[name] / taken[_PASS] for taken in rounds]


def _line(counts: Sequence[int], found: Sequence[Sequence[float]]) -> dict[str, Any]:
    times = [statistics.median(each) for each in found]
    each, fixed = fitted(counts, times)
    off = max(abs(each * count + fixed - time) for count, time in zip(counts, times, strict=True))
    return {
        "times": [round(time, 2) for time in times],
        "spread": [[round(min(ratios), 2), round(max(ratios), 2)] for ratios in found],
        "each": round(each, 3),
        "fixed": round(fixed, 3),
        "off": round(off / max(times), 3),
    }


def fitted(counts: Sequence[int], times: Sequence[float]) -> tuple[float, float]:
    """Slope and intercept of the line through points, by least squares."""
    slope, intercept = np.polyfit(counts, times, 1)
    return float(slope), float(intercept)


def axes_of(model: nn.Module, shape: SamShape, folder: Path) -> dict[str, Axis]:
    """The axes, with sums for the methods in a folder."""
    data = drawn(16, shape.image_size)
    few = _first(data, IMAGES)
    needs = frozenset[Need]().union(*(get_baseline(method).needs for method in METHODS))
    kept = calibrate(model, data=few, needs=needs, cache_dir=folder, progress=False)
    sample, levels = data["phantoms"][0], COMPARISON_LEVELS

    def compared(methods: Sequence[str], levels: Sequence[Level]) -> None:
        """Score, plan, cut, correct and evaluate, as a comparison does."""
        corrector = Corrector(model, few, CorrectionSettings(), IMAGES, progress=False, keep=True)
        for method in methods:
            smalls = [prune(model, plan(model, level, method, statistics=kept)) for level in levels]
            corrector.correct_all(smalls)
            for small in smalls:
                evaluate(small, few, progress=False)

    def calibrated(count: int, place: Path, of: nn.Module = model) -> None:
        calibrate(of, data=_first(data, count), needs=["fisher"], cache_dir=place, progress=False)

    device = next(model.parameters()).device
    depths = {depth: build_sam(_as_deep(shape, depth), device) for depth in (shape.depth // 4, shape.depth // 2)}
    depths[shape.depth] = model
    return {
        "calibration": Axis("images", (2, 4, 8, 16), calibrated),
        "evaluation": Axis("images", (2, 4, 8, 16), lambda n, _: evaluate(model, _first(data, n), progress=False)),
        "prediction": Axis(
            "boxes", (1, 2, 4, 8), lambda n, _: Predictor(model).set_image(sample.image).predict([sample.box] * n)
        ),
        "comparison at one level": Axis("methods", (1, 2, 4), lambda n, _: compared(METHODS[:n], levels[:1])),
        "comparison of one method": Axis("levels", (1, 2, 4), lambda n, _: compared(METHODS[:1], levels[:n])),
        f"calibration on {IMAGES} images": Axis(
            "blocks", tuple(depths), lambda n, at: calibrated(IMAGES, at, depths[n])
        ),
    }


def _first(data: Mapping[str, ArraySet], count: int) -> dict[str, ArraySet]:
    return {name: ArraySet(name, samples.samples[:count]) for name, samples in data.items()}


def _as_deep(shape: SamShape, depth: int) -> SamShape:
    return replace(shape, depth=depth, global_blocks=tuple(block for block in shape.global_blocks if block < depth))


if __name__ == "__main__":
    command()
