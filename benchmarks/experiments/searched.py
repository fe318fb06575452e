"""Searched budgets beside the paper's levels, and what sparing no block gives without any search."""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack

from ..._support.registry import failures_named
from ...calibration.statistics import Statistics
from ...correction.search.search import Search, draw
from ...correction.search.settings import METHOD_VERSION, SearchSettings
from ...evaluation.memory import measured
from ...models.groups import FAMILY_NAMES
from ...pruning.budget import Budget
from ...pruning.cost import count
from ...pruning.level import Level
from ...pruning.plan import Plan
from ...pruning.planning import make_plan, planner
from ...pruning.target import REMOVED, Target
from ...scoring.recipes import Baseline, Scores
from ..report.tables import Grid
from ..runner.inputs import Inputs, sample_hash
from ..runner.jobs import EXPERIMENT, Job, Treatment, plan_path, scored_by, scores_of, stored_plan
from ..runner.methods import Method
from ..runner.settings import SEARCHED, Settings
from ..runner.store import Cell, CellResult, ResultStore

UNPROTECTED = "unprotected"
LEAD = (
    "The searched budget moves heads and neurons between all blocks, protected ones included, at the same cost, by "
    "how far masks of the refitted model are from the whole model's on training images; unprotected takes the same "
    "share of every block, as many heads and neurons in all as the paper's level. All were corrected alike, "
    "without labels."
)


def searched_plans(
    inputs: Inputs,
    settings: Settings,
    recipe: Baseline,
    statistics: Statistics | None,
    units: Sequence[str],
    generations: int,
) -> Iterator[tuple[str, str, Level, Plan]]:
    """Search a budget at every level's cost in every unit, and plan the even share: policy, unit, level, plan."""
    model, scores = inputs.adapted, scores_of(recipe, inputs, statistics)
    fixed = planner(model, recipe, scores, statistics=statistics)
    even = planner(model, recipe.with_settings(quotas="uniform"), scores, budget=Budget(protect=0))
    with _search(inputs, settings, recipe.name, scores, generations) as search:
        for unit in units:
            for level in settings.levels:
                removed = REMOVED[unit](count(model, fixed(level)), count(model))
                as_much = make_plan(model, level)
                share = Level(*(as_much.effective_fraction(each) for each in FAMILY_NAMES))
                yield UNPROTECTED, unit, level, even(share)
                # FLOPs depend on where the heads of the level went
                yield SEARCHED, unit, level, search.plan(level if unit == "params" else Target(unit, removed))


def searches(store: ResultStore, titles: Mapping[str, str], notice: str) -> Grid | None:
    """What each search found, mode by mode of `titles`: how far masks still are, and what blocks keep."""
    found = {(result.cell.mode, result.cell.level): result for result in store.cells() if _is_searched(result, titles)}
    rows = []
    for mode, level in sorted(found, key=lambda key: (list(titles).index(key[0]), key[1])):
        plan = Plan.load(plan_path(store, found[mode, level].plan))
        about = plan.notes[SEARCHED]
        first, *_, last = about["fitness"]
        kept = (" ".join(str(len(block.keep(family))) for block in plan.blocks) for family in ("heads", "neurons"))
        # a search of an earlier version looked at no block alone
        looks = str(about.get("probes", 0) + about["states"])
        rows.append([titles[mode], level, looks, f"{first:.5f}", f"{last:.5f}", *kept])
    if not rows:
        return None
    notes = [
        notice,
        "Divergence: of the masks of the refitted model from the whole model's on training images, which the search "
        "goes by, at its start and at its end. Looks: models that it ran, those of blocks cut alone among them, which "
        "all goals share. Kept: in each block, shallow to deep.",
    ]
    columns = ["at", "level", "looks", "divergence: start", "end", "heads kept", "neurons kept"]
    return Grid("What the search chose", columns, rows, notes, left=2)


def _is_searched(result: CellResult, titles: Mapping[str, str]) -> bool:
    return result.cell.method == SEARCHED and result.cell.mode in titles


def searched_jobs(
    methods: Sequence[Method],
    inputs: Inputs,
    settings: Settings,
    statistics: Mapping[int, Statistics],
    store: ResultStore,
    treatment: Treatment,
    scores: Mapping[tuple[str, int], Scores],
) -> Iterator[Job]:
    """Search a budget for each method at the parameters of each level; a stochastic method's first seed alone.

    Of `scores` those of a method and seed are taken, if they are there. Plans that an earlier run found by the same
    code, settings and images are not searched again. What the levels of a method share is in the time of the first that
    is searched.
    """
    for method in methods:
        seed = method.seeds[0]
        what = [scored_by(method, seed, inputs, settings), sample_hash(inputs.calibration(0)), str(settings.precision)]
        what += [str(METHOD_VERSION), str(settings.generations)]
        origin = hashlib.sha256(" ".join(what).encode()).hexdigest()
        search = None
        with ExitStack() as stack:
            for level in settings.levels:
                cell = Cell(EXPERIMENT, SEARCHED, method.name, str(level), next(iter(inputs.sets)), seed)
                found = stored_plan(cell, origin, store)
                if found is None:
                    with measured() as searching, failures_named(method.name):
                        if search is None:
                            read = statistics.get(0) if method.needs else None
                            of_units = scores.get((method.name, seed)) or scores_of(method.recipe, inputs, read, seed)
                            made = _search(inputs, settings, method.name, of_units, settings.generations, seed)
                            search = stack.enter_context(made)
                        plan = search.plan(level)
                    found = plan, searching
                yield Job(method.name, SEARCHED, str(level), seed, *found, origin, treatment=treatment)


def _search(
    inputs: Inputs,
    settings: Settings,
    criterion_name: str,
    scores: Scores,
    generations: int,
    seed: int = 0,
) -> Search:
    how = SearchSettings(settings.counts.calibration, generations=generations, seed=seed)
    drawn = draw(inputs.adapted, inputs.calibration(0), how)
    return Search(inputs.adapted, criterion_name, scores, drawn, how, cache_dir=settings.calibration_folder)
