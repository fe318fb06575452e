"""A test of Theorem 3.3: the displacement of the contour that it predicts against the one that is measured."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.stats import rankdata
from torch import nn

from ...._support.errors import ResultsError
from ...._support.progress import track
from ....data.samples import SampleSet, Subset
from ....evaluation.contour import REACH_PX, contour_points, measured_displacement, predicted_displacement
from ....evaluation.evaluate import grid_logits, low_res_of
from ....evaluation.images import EvaluationSet
from ....evaluation.leverage import GRID_PX, Array
from ....models.families import geometry_of
from ....models.groups import FAMILY_NAMES, Family
from ....pruning.level import Level
from ....pruning.plan import Plan
from ....pruning.surgery import masked
from ...runner.store import arrays, read_arrays
from .summary import MOST_DRAWS, Sampled, span

SIZES = (0.01, 0.02, 0.05, 0.10, 0.20)
"""Shares of a family's units that a step removes."""
START = Level(0.30, 0.30)
"""Where the steps start: the first cell of the sweep."""
SMALL, LARGE = 0.05, 0.20
"""Sizes that are pictured."""
IMAGES, POINTS = 8, 64
"""Images of each data set, and points of an image's contour, at most."""
FILE = "contours.npz"


@dataclass(frozen=True)
class Step:
    """A step of the test, from `START`."""

    family: Family
    size: float

    @property
    def level(self) -> Level:
        """Where it leads to."""
        moved = {"heads": START.heads, "neurons": START.neurons}
        moved[self.family] += self.size
        return Level(**moved)


STEPS = tuple(Step(family, size) for family in FAMILY_NAMES for size in SIZES)
LEVELS = (START, *(step.level for step in STEPS))


def measure_contours(
    model: nn.Module, plans: Mapping[Level, Plan], sets: Mapping[str, SampleSet], digest: str, root: Path
) -> Path:
    """Measure every step on a few images of each data set, unless the file says that it is of `digest` already.

    The model is masked while it runs. The file that is returned holds `step`, `image`, `predicted`, `measured`, a value
    a point; `datasets`, `groups`, an image; and under `picture_*` one whole image with all points.
    """
    memo = arrays(root / "analysis" / FILE, digest)
    memo.get_or_make(lambda: _measured(model, plans, sets))
    return memo.path


def _measured(
    model: nn.Module, plans: Mapping[Level, Plan], sets: Mapping[str, SampleSet]
) -> dict[str, npt.NDArray[Any]]:
    samples = {n: Subset(each, tuple(range(min(IMAGES, len(each)))), n) for n, each in sets.items()}
    columns: dict[str, list[Any]] = {name: [] for name in ("step", "image", "predicted", "measured")}
    picture: dict[str, Any] = {}
    images = [(name, each, place) for name, each in samples.items() for place in range(len(each))]
    for number, (name, each, place) in enumerate(track(images, "moving contours", total=len(images))):
        one = EvaluationSet(Subset(each, (place,), name), geometry_of(model).frame, GRID_PX)
        maps = _maps(model, plans, one)
        _add(columns, maps, number)
        picture = picture or _picture(maps, one)
    about = {
        "datasets": np.array([name for name, _, _ in images]),
        "groups": np.array([each.groups[place] for _, each, place in images]),
    }
    points = {name: np.concatenate(values) if values else np.zeros(0) for name, values in columns.items()}
    return {**about, **points, **picture}


def read_contours(root: Path) -> dict[str, npt.NDArray[Any]]:
    """Read what `measure_contours` stored."""
    found = read_arrays(root / "analysis" / FILE)
    if found is None:
        raise ResultsError(f"{root / 'analysis' / FILE} is missing or damaged: delete it and run again")
    return found


def _maps(model: nn.Module, plans: Mapping[Level, Plan], one: EvaluationSet) -> dict[Level, Array]:
    """Logits of one image at every level, (H, W)."""
    found = {}
    for level in LEVELS:
        with masked(model, plans[level]):
            low = low_res_of(model, one)
        found[level] = grid_logits(low, one, size=GRID_PX)[0, 0].double().cpu().numpy()
    return found


def _moved(points: Array, before: Array, after: Array) -> tuple[Array, Array]:
    """Predicted, within reach, and measured displacements."""
    predicted = np.clip(predicted_displacement(points, before, after), -REACH_PX, REACH_PX)
    return predicted, measured_displacement(points, before, after)


def _add(columns: dict[str, list[Any]], maps: Mapping[Level, Array], number: int) -> None:
    before = maps[START]
    points = contour_points(before, POINTS)
    for place, step in enumerate(STEPS):
        predicted, measured = _moved(points, before, maps[step.level])
        columns["step"].append(np.full(len(points), place, dtype=np.int16))
        columns["image"].append(np.full(len(points), number, dtype=np.int32))
        columns["predicted"].append(predicted.astype(np.float32))
        columns["measured"].append(measured.astype(np.float32))


def _picture(maps: Mapping[Level, Array], one: EvaluationSet) -> dict[str, Any]:
    """One image in gray with all points of its contour, for a small and a large step; nothing without a contour."""
    points = contour_points(maps[START])
    if not len(points):
        return {}
    image = grid_logits(next(one.batches(1)).images, one, size=GRID_PX)[0].mean(0)
    found: dict[str, Any] = {
        "picture_image": (255 * image.clamp(0, 1)).byte().cpu().numpy(),
        "picture_points": points.astype(np.float32),
    }
    for step in STEPS:
        if step.size in (SMALL, LARGE):
            moved = np.stack(_moved(points, maps[START], maps[step.level]))
            found[f"picture_{step.family}_{step.size:g}"] = moved.astype(np.float32)
    return found


def summarise_contours(stored: Mapping[str, npt.NDArray[Any]], draws: int) -> list[dict[str, Any]]:
    """Correlate predicted with measured displacements; the bootstrap over groups draws at most `MOST_DRAWS` times.

    A row a step: `family`, `size`, `points`, `found` (share with a contour in reach), `moved_px` (median measured
    distance), `error_px` (median difference), `pearson` and `spearman` with intervals.
    """
    drawn = Sampled.of([str(d) for d in stored["datasets"]], [str(g) for g in stored["groups"]], min(draws, MOST_DRAWS))
    return [_row(stored, place, step, drawn) for place, step in enumerate(STEPS)]


def _row(stored: Mapping[str, npt.NDArray[Any]], place: int, step: Step, drawn: Sampled) -> dict[str, Any]:
    own = stored["step"] == place
    there = own & np.isfinite(stored["measured"]) & np.isfinite(stored["predicted"])
    x, y = (stored[name][there].astype(np.float64) for name in ("predicted", "measured"))
    row: dict[str, Any] = {"family": step.family, "size": step.size, "points": int(own.sum())}
    row["found"] = float(there.sum() / max(1, own.sum()))
    row["moved_px"] = float(np.median(np.abs(y))) if len(y) else None
    row["error_px"] = float(np.median(np.abs(x - y))) if len(y) else None
    images = stored["image"][there]
    row["pearson"] = span(_correlations(x, y, images, drawn))
    row["spearman"] = span(_correlations(rankdata(x), rankdata(y), images, drawn))
    return row


def _correlations(x: Array, y: Array, images: npt.NDArray[Any], drawn: Sampled) -> Array:
    """Pearson's correlation under each row of weights; ranks, where x and y are ranks, stay those of all points."""
    count = drawn.weights.shape[1]

    def mean(values: Array) -> Array:
        return np.asarray(drawn.weights @ np.bincount(images, values, minlength=count)) / total

    total = drawn.weights @ np.bincount(images, minlength=count)
    with np.errstate(divide="ignore", invalid="ignore"):
        mean_x, mean_y = mean(x), mean(y)
        variances = (mean(x * x) - mean_x**2) * (mean(y * y) - mean_y**2)
        return np.asarray((mean(x * y) - mean_x * mean_y) / np.sqrt(np.maximum(variances, 0)))


def picture_steps(stored: Mapping[str, npt.NDArray[Any]]) -> Sequence[tuple[Step, Array]]:
    """The pictured steps with their (2, points) predicted and measured displacements."""
    named = ((step, f"picture_{step.family}_{step.size:g}") for step in STEPS)
    return [(step, stored[name].astype(np.float64)) for step, name in named if name in stored]
