"""One number for the whole encoder, such as `params=60%`, split between heads and neurons by boundary leverage."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch_pruning as tp
from torch import nn

from .calibration.statistics import Statistics
from .data.splits.split import Data, training_samples
from .evaluation.evaluate import EvaluationSet
from .evaluation.leverage import BAND_PX, GRID_PX, QUANTILE
from .facade import planner
from .models.families import geometry_of
from .models.groups import FAMILY_NAMES
from .plan_record import Plan
from .scoring.criterion import Criterion
from .scoring.recipes import Baseline, scored
from .split_search import CHUNK, PathStep, SplitSearch
from .target import Target

_COLUMNS = ("step", "family", "units", "heads -%", "MLP -%", "{unit} -%", "heads px/%", "MLP px/%", "why")


@dataclass(frozen=True)
class AutomaticPlan:
    """A plan and how its split came about.

    Attributes:
        plan: To hand to `prune`; its level is the target's text, its notes hold the path.
        path: The steps, in order.
        target: What was asked for.
    """

    plan: Plan
    path: tuple[PathStep, ...] = field(repr=False)
    target: Target

    @property
    def removed(self) -> float:
        """Share of the target's unit that goes."""
        return self.path[-1].removed if self.path else 0.0

    def rows(self) -> tuple[list[str], list[list[str]]]:
        """Headings and rows of a table of the path; a dash where a family had nothing left to give."""
        columns = [name.format(unit=self.target.unit) for name in _COLUMNS]
        rows = []
        for number, step in enumerate(self.path, start=1):
            shares = [f"{100 * share:.1f}" for share in (step.heads, step.neurons, step.removed)]
            leverage = [f"{step.leverage[f]:.3f}" if f in step.leverage else "–" for f in FAMILY_NAMES]
            rows.append([str(number), step.family, str(step.units), *shares, *leverage, step.why])
        return columns, rows

    def __str__(self) -> str:
        columns, rows = self.rows()
        widths = [max(len(row[place]) for row in [columns, *rows]) for place in range(len(columns))]
        lines = [
            "  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in [columns, *rows]
        ]
        heads, neurons = (self.plan.effective_fraction(family) for family in FAMILY_NAMES)
        lines.append(
            f"{self.target}: {100 * self.removed:.2f} % of the {self.target.unit} go, with {100 * heads:.1f} % of the "
            f"heads and {100 * neurons:.1f} % of the neurons"
        )
        return "\n".join(lines)


def automatic_plan(
    model: nn.Module,
    target: Target | str,
    criterion: str | Baseline | tp.importance.Importance | type[Criterion] = "medcore",
    *,
    data: Data,
    statistics: Statistics | None = None,
    reference: nn.Module | None = None,
    samples: int = 16,
    seed: int = 0,
    protect: int | None = None,
    chunk: float = CHUNK,
    around: str = "truth",
    band_px: int = BAND_PX[0],
    q: float = QUANTILE,
    batch_size: int = 16,
    progress: bool = True,
) -> AutomaticPlan:
    """Split a target between heads and neurons by marginal boundary leverage, and plan it (METHOD, Prop. 3.4).

    From the unpruned model, in chunks, the family goes on whose next chunk moves the contour least for what it saves:
    quantile over the band of `|delta| / (||grad l|| + eps)`, over the percent of the target's unit that it saves.
    The model is run with masks; the last chunks are smaller, so that the target is met within a unit.

    Args:
        model: The adapted `Sam`, theta_M, in evaluation mode; not touched.
        target: `params=60%`, `flops=58%`, or a `Target`: how much of the image encoder goes.
        criterion: As for `plan`; it ranks the units, and its quotas spread them over blocks.
        data: A split, whose training part is drawn from, or images by data set.
        statistics: From `calibrate`, where the criterion reads any.
        reference: The checkpoint that the model was adapted from, for criteria that run it.
        samples: Images of each data set that leverage is measured on; a smaller set is taken whole.
        seed: Of the draw and of stochastic criteria.
        protect: How many of the deepest blocks keep everything; None for a sixth of them.
        chunk: Share of a family's units that goes in a step.
        around: Whose contour the band follows: `truth`, `predicted` (before the chunk) or `either`.
        band_px: How far the band reaches to either side, in pixels of the 256 grid.
        q: Quantile over the band.
        batch_size: Images at a time.
        progress: Show how far it is.

    Returns:
        The plan and the path to it; print it for a table.

    Raises:
        BudgetError: The target cannot be read, or so much cannot go; the message names the most that can.
        DataError: No images.
        RegistryError, CriterionError, StatisticsError: As of `plan`.
    """
    wanted = Target.parse(target)
    drawn = training_samples(data, "automatic splitting", samples, seed, geometry_of(model).image_size)
    recipe, scores = scored(model, criterion, statistics, reference, drawn, seed)
    make = planner(model, recipe, scores, statistics=statistics, protect=protect)
    images = [EvaluationSet(each, geometry_of(model).image_size, GRID_PX) for each in drawn.values()]
    search = SplitSearch(model, make, images, chunk=chunk, around=around, band_px=band_px, q=q, batch_size=batch_size)
    return search_plan(search, wanted, {"samples": samples, "around": around, "band_px": band_px}, progress=progress)


def search_plan(
    search: SplitSearch, target: Target, notes: Mapping[str, Any] | None = None, *, progress: bool = True
) -> AutomaticPlan:
    """Run a search for one target and write into the plan how it came about.

    Args:
        search: Of the model; a search that served another target starts from what it has measured.
        target: How much goes.
        notes: What else the plan's notes say of the search.
        progress: Show how far it is.

    Raises:
        BudgetError: So much cannot go.
    """
    found, path = search.run(target, progress=progress)
    steps = [{**dataclasses.asdict(step), "leverage": dict(step.leverage)} for step in path]
    about = {"target": str(target), **(notes or {}), "path": steps}
    plan = dataclasses.replace(found, level=str(target), notes={**found.notes, "automatic": about})
    return AutomaticPlan(plan, tuple(path), target)
