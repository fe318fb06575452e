"""Measuring of the sweep: images outside and cells inside, a part of the images at a time, each part a file.

Maps of a few images at all cells are in memory together, never those of all images. What is kept of an image are its
histograms, so that a bootstrap can pool any draw of images.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from ...._support.progress import track
from ....data.masks import resize_mask
from ....data.samples import SampleSet, Subset
from ....evaluation.evaluate import grid_logits, low_res_of, masks_of, score
from ....evaluation.images import EvaluationSet
from ....evaluation.leverage import BAND_PX, GRID_PX, Before
from ....evaluation.pooled import N_BINS, histogram
from ....models.families import geometry_of
from ....pruning.cost import count
from ....pruning.level import Level
from ....pruning.plan import Plan
from ....pruning.surgery import masked
from ...runner.evaluate import POSTPROCESS
from ...runner.settings import Settings
from ...runner.store import arrays
from .steps import Step, StepGrid, valid_steps

BANDS = {f"{around}_{px}": (around, px) for around in ("truth", "predicted") for px in BAND_PX}
"""Bands that are measured: whose contour, and pixels to either side."""
HEADLINE = "truth_3"
"""The band of the main table."""
METRICS = ("dice", "bf1", "hd95_px")
_PART = 16  # images: what is lost at most when a run is killed

Counts = npt.NDArray[np.int32]
Maps = Mapping[str, Tensor]


@dataclass(frozen=True)
class Cells:
    """The cells of a sweep with their plans; cells beyond saturation share a plan, and are measured once.

    `saved` is valid step to Delta C, percent of the encoder's parameters; `precision` what the models compute in.
    """

    grid: StepGrid
    plans: Mapping[Level, Plan]
    saved: Mapping[Step, float]
    precision: str | None = None

    @classmethod
    def of(cls, model: nn.Module, grid: StepGrid, plans: Mapping[Level, Plan], precision: str | None = None) -> "Cells":
        """Work out which steps save anything."""
        params = {level: count(model, plan).params for level, plan in plans.items()}
        return cls(grid, plans, valid_steps(grid.steps, params, count(model).params), precision)

    @cached_property
    def distinct(self) -> list[Plan]:
        """Each plan once, in the order of the cells."""
        return list({plan.hash: plan for plan in self.plans.values()}.values())

    @cached_property
    def place(self) -> dict[Level, int]:
        """Cell to the number of its plan in `distinct`."""
        known = {plan.hash: number for number, plan in enumerate(self.distinct)}
        return {level: known[plan.hash] for level, plan in self.plans.items()}

    @cached_property
    def moves(self) -> list[tuple[int, int]]:
        """Distinct steps as pairs of distinct plans, by plan before."""
        return sorted({(self.place[step.start], self.place[step.stop]) for step in self.saved})

    def move_of(self, step: Step) -> int:
        """Number of a valid step in `moves`."""
        return self.moves.index((self.place[step.start], self.place[step.stop]))

    def returning(self, step: Step) -> int:
        """Units that are gone before a step and are there again after it: 0 where the plans are nested."""
        pairs = zip(self.plans[step.start].blocks, self.plans[step.stop].blocks, strict=True)
        return sum(
            len(set(after.keep(f)) - set(before.keep(f))) for before, after in pairs for f in ("heads", "neurons")
        )

    @cached_property
    def digest(self) -> str:
        """Hash of all that a part of the results depends on besides its images."""
        hashes = {str(level): plan.hash for level, plan in self.plans.items()}
        return hashlib.sha256(json.dumps([hashes, list(BANDS), N_BINS, GRID_PX, self.precision]).encode()).hexdigest()


@dataclass(frozen=True)
class Part:
    """Some images of one data set."""

    dataset: str
    start: int
    samples: SampleSet

    def path(self, root: Path) -> Path:
        """File of its results."""
        return root / "analysis" / "leverage-parts" / f"{self.dataset}-{self.start:05d}.npz"


def parts_of(sets: Mapping[str, SampleSet]) -> Iterator[Part]:
    """Cut data sets into parts, in order."""
    for name, samples in sets.items():
        for start in range(0, len(samples), _PART):
            chosen = tuple(range(start, min(start + _PART, len(samples))))
            yield Part(name, start, Subset(samples, chosen, name))


def sweep(model: nn.Module, cells: Cells, sets: Mapping[str, SampleSet], settings: Settings, root: Path) -> list[Path]:
    """Measure all steps and cells on all images, and return the parts' files; parts that are stored are kept."""
    parts = [(part, arrays(part.path(root), cells.digest)) for part in parts_of(sets)]
    todo = [(part, memo) for part, memo in parts if memo.get() is None]
    done = len(parts) - len(todo)
    named = f"{len(cells.distinct)} pruned models on {_PART} images"
    for part, memo in track(todo, named, total=len(parts), done=done):
        memo.put({"dataset": part.dataset, **measure(model, cells, part.samples, settings)})
    return [memo.path for _, memo in parts]


def measure(model: nn.Module, cells: Cells, samples: SampleSet, settings: Settings) -> dict[str, npt.NDArray[Any]]:
    """Measure the images of a part; the model is masked while it runs.

    `names`, `groups`: (images,). `counts_<band>`: (moves, images, N_BINS) displacements in the band; `sums_<band>`:
    (moves, images) their sum; `flat_<band>`: (moves, images) band pixels with a slope below eps. `counts_image`:
    (moves, images, N_BINS) |delta| over the median slope, whole image. Each of `METRICS`: (plans, images).
    """
    images = EvaluationSet(samples, geometry_of(model).frame, settings.eval_size)
    maps = [_logits(model, plan, images, settings.batch_size) for plan in cells.distinct]
    found: dict[str, npt.NDArray[Any]] = {"names": np.array(images.ids), "groups": np.array(images.groups)}
    rows = [score(_masks(logits, images), images, tolerance_px=settings.tolerance_px) for logits in maps]
    for metric in METRICS:
        found[metric] = np.stack([row[metric].to_numpy(np.float64) for row in rows])
    truth = torch.from_numpy(np.stack(_truths(samples, images, settings)))[:, None].to(maps[0].device)
    moves = [_measure_moves(maps, images, truth, cells, start) for start in sorted({a for a, _ in cells.moves})]
    for name in moves[0]:
        found[name] = np.concatenate([each[name] for each in moves])
    return found


def _truths(samples: SampleSet, images: EvaluationSet, settings: Settings) -> list[npt.NDArray[np.bool_]]:
    if settings.eval_size == GRID_PX:
        return [resize_mask(mask, GRID_PX) for mask in images.true_masks]
    return [resize_mask(sample.mask, GRID_PX) for sample in samples]


def _logits(model: nn.Module, plan: Plan, images: EvaluationSet, batch_size: int) -> Tensor:
    with masked(model, plan):
        return low_res_of(model, images, batch_size).float()


def _masks(logits: Tensor, images: EvaluationSet) -> list[npt.NDArray[np.bool_]]:
    return masks_of(logits, images, postprocess=POSTPROCESS)


def _measure_moves(
    maps: list[Tensor], images: EvaluationSet, truth: Tensor, cells: Cells, start: int
) -> dict[str, npt.NDArray[Any]]:
    """Measure the steps that start at one plan."""
    old = grid_logits(maps[start], images, size=GRID_PX)
    befores = {name: Before.of(old, truth, around=around, band_px=px) for name, (around, px) in BANDS.items()}
    columns: dict[str, list[npt.NDArray[Any]]] = {}
    for stop in [b for a, b in cells.moves if a == start]:
        new = grid_logits(maps[stop], images, size=GRID_PX)
        for name, before in befores.items():
            inside = before.in_band(new)
            columns.setdefault(f"counts_{name}", []).append(_counts(inside))
            columns.setdefault(f"sums_{name}", []).append(np.array([float(v.double().sum()) for v in inside]))
            columns.setdefault(f"flat_{name}", []).append(before.below_epsilon().cpu().numpy())
        columns.setdefault("counts_image", []).append(_counts(befores[HEADLINE].in_image(new)))
    return {name: np.stack(values) for name, values in columns.items()}


def _counts(values: list[Tensor]) -> Counts:
    return torch.stack([histogram(each) for each in values]).cpu().numpy().astype(np.int32)
