"""Searched budgets beside the paper's levels, and what sparing no block gives without any search."""

import hashlib
from collections.abc import Iterator, Mapping, Sequence

from ..._support.registry import failures_named
from ...calibration.statistics import Statistics
from ...correction.search.plan import searched_plan
from ...correction.search.settings import METHOD_VERSION
from ...evaluation.memory import measured
from ...models.groups import FAMILY_NAMES
from ...pruning.budget import Budget
from ...pruning.cost import count
from ...pruning.level import Level
from ...pruning.plan import Plan
from ...pruning.planning import make_plan, planner
from ...pruning.target import REMOVED, Target
from ...scoring.recipes import Baseline
from ..runner.inputs import Inputs, sample_hash
from ..runner.jobs import EXPERIMENT, Job, Treatment, scored_by, scores_of, stored_plan
from ..runner.methods import Method
from ..runner.settings import SEARCHED, Settings
from ..runner.store import Cell, ResultStore

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
    for unit in units:
        for level in settings.levels:
            removed = REMOVED[unit](count(model, fixed(level)), count(model))
            as_much = make_plan(model, level)
            yield UNPROTECTED, unit, level, even(Level(*(as_much.effective_fraction(each) for each in FAMILY_NAMES)))
            # FLOPs depend on where the heads of the level went
            goal = level if unit == "params" else Target(unit, removed)
            yield SEARCHED, unit, level, _searched(inputs, settings, recipe, statistics, goal, generations)


def searched_jobs(
    methods: Sequence[Method],
    inputs: Inputs,
    settings: Settings,
    statistics: Mapping[int, Statistics],
    store: ResultStore,
    treatment: Treatment,
) -> Iterator[Job]:
    """Search a budget for each method at the parameters of each level; a stochastic method's first seed alone.

    Plans that an earlier run found by the same code, settings and images are not searched again.
    """
    for method in methods:
        seed = method.seeds[0]
        what = [scored_by(method, seed, inputs, settings), sample_hash(inputs.calibration(0)), str(settings.precision)]
        what += [str(METHOD_VERSION), str(settings.generations)]
        origin = hashlib.sha256(" ".join(what).encode()).hexdigest()
        for level in settings.levels:
            cell = Cell(EXPERIMENT, SEARCHED, method.name, str(level), next(iter(inputs.sets)), seed)
            found = stored_plan(cell, origin, store)
            if found is None:
                with measured() as searching, failures_named(method.name):
                    read = statistics.get(0) if method.needs else None
                    plan = _searched(inputs, settings, method.recipe, read, level, settings.generations, seed)
                found = plan, searching
            yield Job(method.name, SEARCHED, str(level), seed, *found, origin, treatment=treatment)


def _searched(
    inputs: Inputs,
    settings: Settings,
    recipe: Baseline,
    statistics: Statistics | None,
    goal: Level | Target,
    generations: int,
    seed: int = 0,
) -> Plan:
    return searched_plan(
        inputs.adapted,
        goal,
        recipe,
        data=inputs.calibration(0),
        statistics=statistics,
        reference=inputs.reference,
        samples=settings.counts.calibration,
        generations=generations,
        seed=seed,
        cache_dir=settings.calibration_folder,
    )
