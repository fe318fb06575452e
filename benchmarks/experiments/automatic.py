"""`medcore-bench automatic`: the automatic split against the paper's levels, at equal parameters and at equal FLOPs."""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ..._support.errors import MedcorePruneError, ResultsError
from ...calibration.statistics import Statistics
from ...correction.search.settings import METHOD_VERSION
from ...data.samples import SampleSet, Subset
from ...evaluation.images import EvaluationSet
from ...evaluation.leverage import BAND_PX, GRID_PX
from ...evaluation.memory import Measured
from ...pruning.automatic import CHUNK, AutomaticPlan, SplitSearch, search_plan
from ...pruning.cost import count
from ...pruning.level import Level
from ...pruning.plan import Plan
from ...pruning.planning import planner
from ...pruning.target import REMOVED, Target
from ..commands.automatic import SAMPLES
from ..report import tables
from ..report.comparison import comparison_frame
from ..report.page import Page, Picture, Section
from ..report.plots.automatic import budget, path_picture
from ..report.summary import Summary, summarise
from ..report.tables import Grid
from ..runner.experiment import Experiment, register_experiment
from ..runner.inputs import Inputs
from ..runner.jobs import Job, keep_plan, scores_of
from ..runner.methods import Method
from ..runner.settings import SEARCHED, Settings
from ..runner.store import ResultStore
from .baselines import correction
from .searched import LEAD, UNPROTECTED, searched_plans, searches

NAME = "automatic"
AUTOMATIC, FIXED = "automatic", "fixed"
MODES = {"params": "equal parameters", "flops": "equal FLOPs"}
_CAPTIONS = {
    "path": "The way of the automatic split from the unpruned model, in shares of all heads and of all MLP neurons, "
    "with the paper's levels. Lines: what is removed, in percent of the unit of the panel.",
    "budget": "BF1 and HD95 of the automatic split and of the paper's levels at the same parameters and FLOPs.",
}
_LEAD = (
    "From the unpruned model, in chunks of a twentieth of a family's units, heads or MLP neurons go on: whichever "
    "moves the contour less for what it saves, as seen on calibration images. The paper's levels fix the two shares by "
    "hand. Same scores, same quotas, no fine-tuning. Where all goes that may go, the two cannot differ."
)


@register_experiment(NAME)
@dataclass
class Automatic(Experiment):
    """Compare the automatic split of heads and MLP with the paper's levels, at equal parameters and FLOPs."""

    modes = MODES

    method: str
    samples: int = SAMPLES
    chunk: float = CHUNK

    def __post_init__(self) -> None:
        if self.settings.seeds != 1:
            raise MedcorePruneError("--seeds: the split looks at one calibration sample; leave it at 1")
        self.settings = replace(self.settings, subject=SEARCHED if self.settings.search else AUTOMATIC)

    def identity(self) -> dict[str, Any]:
        searched = {"search": [METHOD_VERSION, self.settings.generations]} if self.settings.search else {}
        return {"method": self.methods[0].fingerprint, "samples": self.samples, "chunk": self.chunk, **searched}

    def about(self) -> dict[str, Any]:
        name, about = self.methods[0].name, self.methods[0].describe()
        both = {
            FIXED: {**about, "description": f"{name} at the paper's level"},
            AUTOMATIC: {**about, "description": f"{name}, split by marginal boundary leverage"},
        }
        more = {
            UNPROTECTED: {**about, "description": f"{name}, the same share of every block, as much in all"},
            SEARCHED: {**about, "description": f"{name}, budget searched over blocks and families"},
        }
        return {"methods": {**both, **more} if self.settings.search else both, "scores": name}

    def jobs(self) -> list[Job]:
        statistics, method = self.statistics.get(0), self.methods[0]
        jobs, paths = plan_all(self.inputs, self.settings, method, statistics, self.samples, self.chunk)
        self.store.write_analysis("paths", paths)
        if self.settings.search:
            plans = searched_plans(
                self.inputs, self.settings, method.recipe, statistics, tuple(MODES), self.settings.generations
            )
            jobs = [*jobs, *(_job(name, unit, level, plan, method) for name, unit, level, plan in plans)]
            treatment = correction(self.inputs, self.settings)
            jobs = [replace(job, treatment=treatment) for job in jobs]
        for job in jobs:
            keep_plan(self.store, job.plan)
        return jobs

    @staticmethod
    def page(store: ResultStore) -> Page:
        paths = store.analysis("paths")
        if paths is None:
            raise ResultsError(f"{store.root} holds no finished split yet: run the same command again to go on")
        summary = summarise(store)
        notice = str(store.run.get("notice", ""))
        pictures = {
            "path": Picture(_CAPTIONS["path"], lambda theme: path_picture(paths, theme)),
            "budget": Picture(_CAPTIONS["budget"], lambda theme: budget(summary, theme)),
        }
        modes = [mode for mode in MODES if mode in summary.modes]
        against = [tables.differences(summary, mode) for mode in modes]
        details = [tables.comparison(summary, mode) for mode in modes]
        chosen = [splits(paths, summary, notice), searches(store, MODES, notice)]
        shown = [*filter(None, chosen), *against]
        sections = [
            Section("Automatic against fixed", grids=shown, figures=pictures),
            Section("All metrics", grids=details, folded=True),
            Section("The paths", grids=_path_grids(paths, notice), folded=True),
        ]
        lead = [f"Scores: {store.run.get('scores', '')}. {_LEAD}"]
        if SEARCHED in store.run.get("methods", {}):
            lead.append(LEAD)
        return Page("The automatic split", lead, sections, shown, {NAME: comparison_frame(summary)})


command = Automatic.command()


def plan_all(
    inputs: Inputs, settings: Settings, method: Method, statistics: Statistics | None, samples: int, chunk: float
) -> tuple[list[Job], dict[str, Any]]:
    """Plan every level, and the automatic split at its parameters and at its FLOPs.

    The search looks at `samples` images of each data set, and a step takes `chunk`, a share of a family's units.
    Beside the jobs, what `analysis/paths.json` holds: a path for each unit and level, and the levels' shares.
    """
    model, recipe = inputs.adapted, method.recipe
    make = planner(model, recipe, scores_of(recipe, inputs, statistics), statistics=statistics)
    drawn = inputs.calibration(0).values()
    images = [EvaluationSet(_first(each, samples), inputs.frame, GRID_PX) for each in drawn]
    search = SplitSearch(model, make, images, chunk=chunk, batch_size=settings.batch_size)
    fixed = {level: make(level) for level in settings.levels}
    jobs, paths = list[Job](), dict[str, dict[str, Any]]()
    for unit in MODES:
        for level, plan in fixed.items():
            target = Target(unit, _removed(search, plan, unit))
            notes = {"samples": samples, "around": "truth", "band_px": BAND_PX[0]}
            found = search_plan(search, target, notes)
            jobs += [_job(FIXED, unit, level, plan, method), _job(AUTOMATIC, unit, level, found.plan, method)]
            paths.setdefault(unit, {})[str(level)] = _path(found)
    shares = {str(level): [plan.effective_fraction(f) for f in ("heads", "neurons")] for level, plan in fixed.items()}
    return jobs, {"paths": paths, "levels": shares, "unit_cost": _unit_costs(search)}


def _first(samples: SampleSet, most: int) -> SampleSet:
    return Subset(samples, tuple(range(min(most, len(samples)))), samples.name)


def _removed(search: SplitSearch, plan: Plan, unit: str) -> float:
    return REMOVED[unit](count(search.model, plan), search.dense)


def _unit_costs(search: SplitSearch) -> dict[str, dict[str, float]]:
    """Share of each unit that all heads, or all neurons, that may go take with them: the slopes of the lines."""
    only = {"heads": (search.most[0], 0), "neurons": (0, search.most[1])}
    return {
        unit: {
            family: search.removed(state, Target(unit, 0.5)) / (max(state) / search.total[place])
            for place, (family, state) in enumerate(only.items())
        }
        for unit in MODES
    }


def _job(name: str, unit: str, level: Level, plan: Plan, method: Method) -> Job:
    return Job(name, unit, str(level), 0, plan, Measured(), method.fingerprint, experiment=NAME)


def _path(found: AutomaticPlan) -> dict[str, Any]:
    steps = [{**dataclasses.asdict(step), "leverage": dict(step.leverage)} for step in found.path]
    columns, rows = found.rows()
    return {"target": str(found.target), "steps": steps, "columns": columns, "rows": rows}


def splits(paths: Mapping[str, Any], summary: Summary, notice: str) -> Grid:
    """What the automatic split chose at each level's size, and what came of it."""
    rows = []
    for mode, title in MODES.items():
        for level, (heads, neurons) in paths["levels"].items():
            found = {row.method: row for row in summary.of(mode, level)}
            if {AUTOMATIC, FIXED} - found.keys():
                continue
            last = paths["paths"][mode][level]["steps"][-1]
            shares = [f"{100 * share:.1f}" for share in (heads, last["heads"], neurons, last["neurons"])]
            rows.append([title, level, *shares, *_pair(found, "bf1"), *_pair(found, "hd95_px"), _sizes(found, mode)])
    columns = ["at", "level", "heads -%: fixed", "automatic", "MLP -%: fixed", "automatic", "BF1: fixed", "automatic"]
    return Grid(
        "What the automatic split chose",
        [*columns, "HD95 px: fixed", "automatic", "removed %: fixed, automatic"],
        rows,
        [notice, "Shares of all heads and neurons of the encoder, protected blocks included."],
        left=2,
    )


def _pair(found: Mapping[str, Any], metric: str) -> list[str]:
    return [tables.number(metric, found[name].metrics[metric].value) for name in (FIXED, AUTOMATIC)]


def _sizes(found: Mapping[str, Any], unit: str) -> str:
    return ", ".join(f"{100 * found[name].cost[f'{unit}_removed']:.2f}" for name in (FIXED, AUTOMATIC))


def _path_grids(paths: Mapping[str, Any], notice: str) -> Sequence[Grid]:
    """The longest path of each unit: those of smaller targets follow it but for their last steps."""
    grids = []
    for of_unit in (paths["paths"][unit] for unit in MODES):
        longest = max(of_unit.values(), key=lambda path: len(path["rows"]))
        title = f"Path to {longest['target']}"
        grids.append(Grid(title, longest["columns"], longest["rows"], [notice], left=2))
    return grids
