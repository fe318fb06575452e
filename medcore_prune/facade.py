"""From a name and a level to a plan: the short way through registry, scores and budget."""

from collections.abc import Callable, Collection

import torch_pruning as tp
from torch import nn

from .calibration.sensitivity import block_sensitivity
from .calibration.statistics import Statistics
from .data.splits.split import Data
from .level import Level
from .plan_record import Plan
from .planning import make_plan
from .scoring.criterion import Criterion
from .scoring.recipes import Baseline, Scores, scored


def plan(
    model: nn.Module,
    level: Level | str,
    criterion: str | Baseline | tp.importance.Importance | type[Criterion] = "medcore",
    *,
    statistics: Statistics | None = None,
    reference: nn.Module | None = None,
    data: Data | None = None,
    seed: int = 0,
    protect: int | None = None,
    only: Collection[int] | None = None,
    mlp_group_size: int = 1,
    ranking: str = "block",
    gamma: float | None = None,
    cost: str = "params",
) -> Plan:
    """Score a model's heads and neurons and choose what goes at a level.

    Args:
        model: The adapted model, theta_M; not touched.
        level: `h50_m70`, or a `Level`.
        criterion: A registered baseline or criterion by name, or a recipe such as
            `get_baseline("medcore").with_settings(beta=0.5)`, or a `Criterion` (class or object) or torch-pruning
            importance object. What is no recipe gets uniform quotas.
        statistics: From `calibrate`, where the recipe reads any.
        reference: The checkpoint that the model was adapted from, for criteria that run it.
        data: Images by data set, or a split, whose training part is taken whole, for criteria that run the network.
        seed: Of stochastic criteria.
        protect: How many of the deepest blocks keep everything; None for a sixth of them.
        only: Prune these blocks alone; the level then means shares of their units.
        mlp_group_size: Neurons that go together.
        ranking, gamma, cost: `"global"` puts all groups under one cost budget by Q = S / c^gamma (Eq. 8), c being
            `"params"` or `"flops"`; see `make_plan`.

    Returns:
        The plan: plain data to print, save, edit and hand to `prune`.

    Raises:
        RegistryError: An unknown name.
        CriterionError: The criterion lacks an input, or its scores cannot be used.
        StatisticsError: The statistics lack what the recipe needs, or belong to other shapes.
        BudgetError: The level cannot be met.
    """
    recipe, scores = scored(model, criterion, statistics, reference, data, seed, mlp_group_size)
    return plan_from_scores(
        model,
        level,
        recipe,
        scores,
        statistics=statistics,
        protect=protect,
        only=only,
        mlp_group_size=mlp_group_size,
        ranking=ranking,
        gamma=gamma,
        cost=cost,
    )


def plan_from_scores(
    model: nn.Module,
    level: Level | str,
    recipe: Baseline,
    scores: Scores,
    *,
    statistics: Statistics | None = None,
    protect: int | None = None,
    only: Collection[int] | None = None,
    mlp_group_size: int = 1,
    ranking: str = "block",
    gamma: float | None = None,
    cost: str = "params",
) -> Plan:
    """Choose what goes at a level from scores taken before: for several levels, score once.

    Args:
        model: The model that was scored.
        level: `h50_m70`, or a `Level`.
        recipe: Says how the budget is spread over blocks.
        scores: (block, family) to (n_units,), as `unit_scores` returns them.
        statistics: Read for the block sensitivity s_b of sensitivity quotas.
        protect, only, mlp_group_size, ranking, gamma, cost: As for `plan`; under `"global"` there are no quotas.

    Returns:
        The plan.

    Raises:
        StatisticsError: Sensitivity quotas without a Fisher.
        BudgetError: The level cannot be met.
    """
    quotas = "uniform" if ranking == "global" else recipe.quotas
    sensitivity = None
    if quotas == "sensitivity" and statistics is not None:
        sensitivity = block_sensitivity(statistics, model, recipe.lambda_b, recipe.sensitivity)
    return make_plan(
        model,
        level,
        scores=scores,
        quotas=quotas,
        sensitivity=sensitivity,
        tau=recipe.tau,
        protect=protect,
        only=only,
        mlp_group_size=mlp_group_size,
        ranking=ranking,
        gamma=gamma,
        cost=cost,
        criterion_name=recipe.name,
    )


def planner(
    model: nn.Module,
    recipe: Baseline,
    scores: Scores,
    *,
    statistics: Statistics | None = None,
    protect: int | None = None,
) -> Callable[[Level | str], Plan]:
    """Return what makes the plan of any level, for many levels: the block sensitivity is worked out once.

    Args:
        model, recipe, scores, statistics, protect: As for `plan_from_scores`, whose plans these are.

    Raises:
        StatisticsError: Sensitivity quotas without a Fisher.
    """
    sensitivity = None
    if recipe.quotas == "sensitivity" and statistics is not None:
        sensitivity = block_sensitivity(statistics, model, recipe.lambda_b, recipe.sensitivity)

    def make(level: Level | str) -> Plan:
        return make_plan(
            model,
            level,
            scores=scores,
            quotas=recipe.quotas,
            sensitivity=sensitivity,
            tau=recipe.tau,
            protect=protect,
            criterion_name=recipe.name,
        )

    return make
