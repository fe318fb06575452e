"""Searched budgets beside the paper's levels, and what sparing no block gives without any search."""

from collections.abc import Iterator, Sequence

from ...calibration.statistics import Statistics
from ...correction.search.plan import searched_plan
from ...models.groups import FAMILY_NAMES
from ...pruning.budget import Budget
from ...pruning.cost import count
from ...pruning.level import Level
from ...pruning.plan import Plan
from ...pruning.planning import make_plan, planner
from ...pruning.target import REMOVED, Target
from ...scoring.recipes import Baseline
from ..runner.inputs import Inputs
from ..runner.jobs import scores_of
from ..runner.settings import Settings

SEARCHED, UNPROTECTED = "searched", "unprotected"
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
            found = searched_plan(
                model,
                # FLOPs depend on where the heads of the level went
                level if unit == "params" else Target(unit, removed),
                recipe,
                data=inputs.calibration(0),
                statistics=statistics,
                reference=inputs.reference,
                samples=settings.counts.calibration,
                generations=generations,
                cache_dir=settings.calibration_folder,
            )
            yield SEARCHED, unit, level, found
