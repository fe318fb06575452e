"""One number for the whole encoder, such as `params=60%`, split between heads and neurons by boundary leverage."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from .._support.errors import BudgetError, DataError
from .._support.progress import track
from ..calibration.statistics import Statistics
from ..data.masks import resize_mask
from ..data.splits.split import Data, training_samples
from ..evaluation.evaluate import grid_logits, low_res_of
from ..evaluation.images import EvaluationSet
from ..evaluation.leverage import BAND_PX, GRID_PX, QUANTILE, Before
from ..evaluation.pooled import PooledValues
from ..models.calls.altered import refuse_hooked
from ..models.calls.call import on_models
from ..models.families import geometry_of
from ..models.groups import FAMILY_NAMES, Family
from ..scoring.inputs import Inputs
from ..scoring.recipes import Scorer, scored
from .block_times import block_times
from .budget import Budget
from .cost import Cost, count
from .level import Level
from .plan import Plan
from .planning import planner
from .surgery import masked
from .target import CHUNK, Target
from .times import BlockTimes

State = tuple[int, int]
"""Heads and neurons that are gone, over the whole encoder."""

_ALL = Level(1 - 1e-6, 1 - 1e-6)
_SLACK = 1e-9
_MAPS_KEPT = 3  # of the present state and of one candidate a family


@dataclass(frozen=True)
class PathStep:
    """One step of the search.

    Attributes:
        family: Which family went on.
        units: How many of its units.
        heads, neurons: Shares of all units that are gone after it.
        removed: Share of the target's unit that is gone after it.
        leverage: Family to the boundary leverage of its next chunk, in px per percent; without a family that had
            nothing left to give.
        why: The reason for the choice.
    """

    family: Family
    units: int
    heads: float
    neurons: float
    removed: float
    leverage: Mapping[Family, float]
    why: str


class SplitSearch:
    """Finds splits for any number of targets; what one search measured, the next one knows.

    The model is in evaluation mode, masked while it runs, and not touched. `planner` makes the plan of a level; images
    lie on the grid of `GRID_PX`; the rest is as of `automatic_plan`.
    """

    def __init__(
        self,
        model: nn.Module,
        planner: Callable[[Level], Plan],
        images: Sequence[EvaluationSet],
        *,
        chunk: float = CHUNK,
        around: str = "truth",
        band_px: int = BAND_PX[0],
        q: float = QUANTILE,
        batch_size: int = 16,
        times: BlockTimes | None = None,
    ) -> None:
        if not 0 < chunk <= 1:
            raise BudgetError(f"chunk is {chunk:g}: expected a share of a family's units above 0 and at most 1")
        if not images:
            raise DataError("the split is measured on images: expected at least one data set")
        self.model, self._planner, self._batch_size = model, planner, batch_size
        self._around, self._band_px, self._q = around, band_px, q
        self._images = list(images)
        # an object that is gone from the grid, which the set keeps at its own size, has no boundary here
        truths = [[resize_mask(mask, GRID_PX) for mask in each.true_masks] for each in images]
        self._truth = [torch.from_numpy(np.stack(each))[:, None] for each in truths]
        self.times = times
        self.dense = count(model, times=times)
        full = planner(_ALL)
        self.total: State = (sum(b.heads for b in full.blocks), sum(b.neurons for b in full.blocks))
        self.most: State = (full.removed("heads"), full.removed("neurons"))
        self.protected, self.depth = len(full.protected), len(full.blocks)
        self.chunk: State = (max(1, round(chunk * self.total[0])), max(1, round(chunk * self.total[1])))
        self._plans: dict[State, Plan] = {}
        self._costs: dict[State, Cost] = {}
        self._displaced: dict[tuple[State, State], float] = {}
        self._maps: dict[State, Tensor] = {}

    def run(self, target: Target, *, progress: bool = True) -> tuple[Plan, list[PathStep]]:
        """Return the plan that is nearest to the target, by a unit, and the steps that led to it."""
        self.require_reachable(target)
        state, path = (0, 0), list[PathStep]()
        for _ in track(range(sum(self.total)), f"splitting {target}", total=self._steps(target), show=progress):
            options = {family: found for family in FAMILY_NAMES if (found := self._next(state, family, target))}
            if not options:
                options = self._last(state, target)
            if not options:
                break
            family, step = self._choose(state, options, target)
            state = options[family]
            path.append(step)
        return self.plan(state), path

    def require_reachable(self, target: Target) -> None:
        """Refuse a target beyond what the encoder can give up; the message says how much can go."""
        most = self.removed(self.most, target)
        if target.fraction > most + _SLACK:
            floored = int(1e4 * most) / 100
            raise BudgetError(
                f"target {target}: at most {floored:g} % of the encoder's {target.unit} can go: {self.protected} of "
                f"{self.depth} blocks are protected, each other one keeps a head and 5 % of its neurons; ask for less, "
                "or protect fewer blocks"
            )

    def plan(self, state: State) -> Plan:
        """Return the plan that removes so many heads and neurons."""
        if state not in self._plans:
            self._plans[state] = self._planner(Level(state[0] / self.total[0], state[1] / self.total[1]))
        return self._plans[state]

    def removed(self, state: State, target: Target) -> float:
        """Share of the target's unit that is gone in a state."""
        if state not in self._costs:
            self._costs[state] = count(self.model, self.plan(state), times=self.times)
        return target.reached(self._costs[state], self.dense)

    def displacement(self, state: State, after: State) -> float:
        """Quantile over the band of how far the contour moves from one state to another, in pixels."""
        if (state, after) not in self._displaced:
            maps, pool = (self._low_res(state), self._low_res(after)), PooledValues()
            start = 0
            for images, truth in zip(self._images, self._truth, strict=True):
                for place in range(0, len(truth), self._batch_size):
                    masks = truth[place : place + self._batch_size]
                    part = slice(start, start + len(masks))
                    start += len(masks)
                    old, new = (grid_logits(each[part], images, place, GRID_PX) for each in maps)
                    before = Before.of(old, masks.to(old.device), around=self._around, band_px=self._band_px)
                    pool.add(torch.cat(before.in_band(new)))
            self._displaced[state, after] = pool.quantile(self._q)
        return self._displaced[state, after]

    def _steps(self, target: Target) -> int:
        """About how many steps there will be: the chunks of the whole way, by what has to go."""
        chunks = sum(-(-most // chunk) for most, chunk in zip(self.most, self.chunk, strict=True))
        return max(1, round(chunks * target.fraction / max(self.removed(self.most, target), _SLACK)))

    def _next(self, state: State, family: Family, target: Target) -> State | None:
        """The state after a family's next chunk, a smaller one where a whole one is too much; None for nothing."""
        place = FAMILY_NAMES.index(family)
        low, high = 0, min(self.chunk[place], self.most[place] - state[place])
        allowed = target.fraction + _SLACK
        if self.removed(_gone(state, place, high), target) > allowed:
            while high - low > 1:  # removes too much with `high` units, not with `low`
                middle = (low + high) // 2
                fits = self.removed(_gone(state, place, middle), target) <= allowed
                low, high = (middle, high) if fits else (low, middle)
            high = low
        found = _gone(state, place, high)
        return found if self.removed(found, target) > self.removed(state, target) else None

    def _last(self, state: State, target: Target) -> dict[Family, State]:
        """One unit more where that is nearer to the target than to stop: of the family that gets nearest."""
        gaps: dict[Family | None, float] = {None: target.fraction - self.removed(state, target)}
        states = {}
        for place, family in enumerate(FAMILY_NAMES):
            if state[place] < self.most[place]:
                states[family] = _gone(state, place, 1)
                gaps[family] = abs(self.removed(states[family], target) - target.fraction)
        nearest = min(gaps, key=gaps.__getitem__)
        return {} if nearest is None else {nearest: states[nearest]}

    def _choose(self, state: State, options: Mapping[Family, State], target: Target) -> tuple[Family, PathStep]:
        before = self.removed(state, target)
        leverage = {
            family: self.displacement(state, after) / (100 * (self.removed(after, target) - before))
            for family, after in options.items()
        }
        family = min(leverage, key=leverage.__getitem__)
        after = options[family]
        why = "lower leverage" if len(options) > 1 else "nothing else fits"
        heads, neurons = (gone / total for gone, total in zip(after, self.total, strict=True))
        units = sum(after) - sum(state)
        return family, PathStep(family, units, heads, neurons, self.removed(after, target), leverage, why)

    @torch.no_grad()
    def _low_res(self, state: State) -> Tensor:
        """Low-resolution logits of all images, (images, 1, h, w); those of the last few states are kept."""
        if state in self._maps:
            self._maps[state] = self._maps.pop(state)
            return self._maps[state]
        with masked(self.model, self.plan(state)):
            parts = [low_res_of(self.model, each, self._batch_size) for each in self._images]
        self._maps[state] = torch.cat(parts)
        while len(self._maps) > _MAPS_KEPT:
            del self._maps[next(iter(self._maps))]
        return self._maps[state]


def _gone(state: State, place: int, units: int) -> State:
    return (state[0] + units, state[1]) if place == 0 else (state[0], state[1] + units)


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


@on_models("model", "reference", refuse=refuse_hooked)
def automatic_plan(
    model: nn.Module,
    target: Target | str,
    criterion: Scorer = "medcore",
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
    times: BlockTimes | None = None,
    progress: bool = True,
) -> AutomaticPlan:
    """Split a target between heads and neurons by marginal boundary leverage, and plan it (METHOD, Prop. 3.4).

    From the unpruned model, in chunks, the family goes on whose next chunk moves the contour least for what it saves:
    quantile over the band of `|delta| / (||grad l|| + eps)`, over the percent of the target's unit that it saves.
    The model is run with masks; the last chunks are smaller, so that the target is met within a unit.

    Args:
        model: The adapted `Sam`, theta_M, in evaluation mode; not touched.
        target: `params=60%`, `flops=58%`, `latency=50%` or a `Target`: how much of the image encoder goes.
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
        times: From `block_times`, for a target in latency; measured, or found kept, where there are none.
        progress: Show how far it is.

    Returns:
        The plan and the path to it; print it for a table.

    Raises:
        BudgetError: The target cannot be read, or so much cannot go; the message names the most that can.
        DataError: No images.
        SurgeryError: A part of the model was compiled, patched or hooked.
        RegistryError, CriterionError, StatisticsError: As of `plan`.
    """
    wanted = Target.parse(target)
    drawn = training_samples(data, "automatic splitting", samples, seed, geometry_of(model).frame)
    recipe, scores = scored(criterion, Inputs(model, reference, drawn, statistics, seed))
    make = planner(model, recipe, scores, statistics=statistics, budget=Budget(protect=protect))
    if wanted.unit == "latency" and times is None:
        times = block_times(model, progress=progress)
    images = [EvaluationSet(each, geometry_of(model).frame, GRID_PX) for each in drawn.values()]
    search = SplitSearch(
        model, make, images, chunk=chunk, around=around, band_px=band_px, q=q, batch_size=batch_size, times=times
    )
    return search_plan(search, wanted, {"samples": samples, "around": around, "band_px": band_px}, progress=progress)


def search_plan(
    search: SplitSearch, target: Target, notes: Mapping[str, Any] | None = None, *, progress: bool = True
) -> AutomaticPlan:
    """Run a search for one target and write into the plan's notes how it came about, and `notes` besides."""
    found, path = search.run(target, progress=progress)
    steps = [{**dataclasses.asdict(step), "leverage": dict(step.leverage)} for step in path]
    about = {"target": str(target), **(notes or {}), "path": steps}
    plan = dataclasses.replace(found, level=str(target), notes={**found.notes, "automatic": about})
    return AutomaticPlan(plan, tuple(path), target)
