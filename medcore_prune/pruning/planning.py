"""Make a pruning plan: level and quotas say how many units go, scores say which."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any

from torch import nn

from .._support.errors import BudgetError
from ..calibration.sensitivity import block_sensitivity
from ..calibration.statistics import Statistics
from ..data.splits.split import Data
from ..models.calls.call import on_models
from ..models.groups import FAMILY_NAMES, Family, StructuredGroup, groups_of
from ..scoring.inputs import Inputs, images_of
from ..scoring.recipes import Baseline, Scorer, Scores, scored
from .budget import SEARCHED, Budget, Key, min_keep
from .level import Level
from .plan import BlockPlan, Plan
from .quotas import Quotas
from .quotas import quotas as spread
from .ranking import Request, check_scores, lowest, require_scores


@on_models("model", "reference", refuse=None)
def plan(
    model: nn.Module,
    level: Level | str,
    criterion: Scorer = "medcore",
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
    budget = Budget(
        Level.parse(level), protect, only, mlp_group_size=mlp_group_size, ranking=ranking, gamma=gamma, cost=cost
    )
    return scored_plan(criterion, Inputs(model, reference, images_of(data), statistics, seed), budget)


def scored_plan(criterion: Scorer, inputs: Inputs, budget: Budget) -> Plan:
    """Score and choose, as `plan`; of quotas and tau the recipe has its own."""
    recipe, scores = scored(criterion, inputs, budget.mlp_group_size)
    assert inputs.model is not None, "whoever asks for a plan names the model"
    return planner(inputs.model, recipe, scores, statistics=inputs.statistics, budget=budget)(budget.level)


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
    budget = Budget(
        Level.parse(level), protect, only, mlp_group_size=mlp_group_size, ranking=ranking, gamma=gamma, cost=cost
    )
    return planner(model, recipe, scores, statistics=statistics, budget=budget)(budget.level)


def planner(
    model: nn.Module,
    recipe: Baseline,
    scores: Scores,
    *,
    statistics: Statistics | None = None,
    sensitivity: Sequence[float] | None = None,
    budget: Budget | None = None,
) -> Callable[[Level | str], Plan]:
    """Return what makes the plan of any level, for many levels: the block sensitivity is worked out once.

    Plans are those of `plan_from_scores`; of the budget, the level goes by what is asked, quotas and tau by the recipe.
    A `sensitivity` that was worked out before is taken in the place of the statistics.
    """
    budget = budget or Budget()
    budget = replace(budget, quotas="uniform" if budget.ranking == "global" else recipe.quotas, tau=recipe.tau)
    if budget.quotas != "sensitivity":
        sensitivity = None
    elif sensitivity is None and statistics is not None:
        sensitivity = block_sensitivity(statistics, model, recipe.lambda_b, recipe.sensitivity)

    def make(level: Level | str) -> Plan:
        return _planned(model, replace(budget, level=Level.parse(level)), scores, sensitivity, recipe.name)

    return make


def make_plan(
    model: nn.Module,
    level: Level | str,
    *,
    scores: Scores | None = None,
    quotas: str = "uniform",
    sensitivity: Sequence[float] | None = None,
    tau: float = 0.5,
    protect: int | None = None,
    only: Collection[int] | None = None,
    ranking: str = "block",
    gamma: float | None = None,
    cost: str = "params",
    mlp_group_size: int = 1,
    criterion_name: str = "",
    strict: bool = False,
) -> Plan:
    """Choose what goes at a level (METHOD section 7), without touching the model.

    Args:
        model: A model of a known family; `meta` is enough when there are no scores.
        level: `h50_m70` or a `Level`: shares of all heads and neurons of the encoder, or of the blocks in `only`.
        scores: (block, family) to a (n_units,) tensor, lowest goes first, ties by index; what is not cut needs none.
            None picks the lowest indices: right counts and cost, arbitrary units.
        quotas: `uniform`; `sensitivity` for quotas that fall with a block's s_b; `ranked` for as many heads and as many
            neurons, but the lowest of all blocks together.
        sensitivity: s_b of every block of the model, read for `sensitivity` quotas.
        tau: Exponent of the quota weights s_b^-tau.
        protect: How many of the deepest blocks keep everything; None for `default_protect`.
        only: Prune these blocks alone, the level being shares of their units: the sequential second pass.
        ranking: `block`: lowest of each block by its quota. `global`: all groups together by Q = S / c^gamma, until
            the cost that the uniform level would remove is reached (Eq. 2); minimal retention and protection hold.
        gamma: Exponent of the cost, for `global` alone (there 1 by default).
        cost: c_g of `global`: `params`, or `flops` as the paper counts them.
        mlp_group_size: Neurons that go together.
        criterion_name: Kept in the plan.
        strict: Refuse a level that saturates instead of noting it.

    Returns:
        The plan; its notes hold what was requested and what went, by family.

    Raises:
        BudgetError: Arguments that do not go together, an infeasible level, or scores that do not fit or are not
            finite.
    """
    budget = Budget(Level.parse(level), protect, only, quotas, tau, ranking, gamma, cost, mlp_group_size, strict)
    return _planned(model, budget, scores, sensitivity, criterion_name)


def plan_of_counts(
    model: nn.Module,
    kept: Mapping[Key, int],
    scores: Scores,
    *,
    level: str,
    criterion_name: str = "",
    protected: Collection[int] = (),
    notes: Mapping[str, Any] | None = None,
) -> Plan:
    """Plan what keeps so many units of every group, those of the highest scores; quotas are `searched`.

    Scores that are missing or cannot be, and counts that no group has, are refused as in `make_plan`.
    """
    groups = groups_of(model)
    counts = {(group.block, group.family): group.n_units - kept[group.block, group.family] for group in groups}
    checked = check_scores(scores, {(g.block, g.family): g.n_units for g in groups})
    require_scores(checked, [key for key, count in counts.items() if count])
    gone = {key: lowest(checked[key], count) if count else [] for key, count in counts.items()}
    depth = len(groups) // len(FAMILY_NAMES)
    return Plan(
        level=level,
        blocks=tuple(_block_plan(block, groups, gone) for block in range(depth)),
        criterion=criterion_name,
        quotas=SEARCHED,
        protected=tuple(sorted(protected)),
        notes=notes or {},
    )


def _planned(
    model: nn.Module, budget: Budget, scores: Scores | None, sensitivity: Sequence[float] | None, name: str
) -> Plan:
    if budget.quotas == SEARCHED:
        raise BudgetError(
            "quotas='searched' are found by running the network on images: ask searched_plan for the plan"
        )
    if scores is None:
        for what, value in (("quotas", budget.quotas), ("ranking", budget.ranking)):
            if value in ("ranked", "global"):
                raise BudgetError(f"{what}={value!r} needs scores: they alone say where the budget goes")
    groups = groups_of(model, budget.mlp_group_size)
    depth = len(groups) // len(FAMILY_NAMES)
    scope, protected = budget.scope(depth)
    weights = budget.weights(sensitivity, depth)
    counts = {family: _quotas_of(family, groups, budget, weights) for family in FAMILY_NAMES}
    checked = None if scores is None else check_scores(scores, {(g.block, g.family): g.n_units for g in groups})
    gone = Request(model, groups, budget, scope, protected, counts, checked).choose()
    return Plan(
        level=str(budget.level),
        blocks=tuple(_block_plan(block, groups, gone) for block in range(depth)),
        criterion=name,
        quotas="global" if budget.ranking == "global" else budget.quotas,
        protected=protected,
        only=None if budget.only is None else scope,
        notes=_notes(counts, budget),
    )


def _quotas_of(
    family: Family, groups: Sequence[StructuredGroup], budget: Budget, weights: list[float] | None
) -> Quotas:
    scope, protected = budget.scope(len(groups) // len(FAMILY_NAMES))
    asked = [group for group in groups if group.family == family and group.block in scope]
    # the same share of every block, however large (METHOD section 13); exactly 1 where all are alike
    largest = max((group.n_units for group in asked), default=1)
    parts = [group.n_units / largest for group in asked]
    try:
        return spread(
            [group.n_units for group in asked],
            budget.share(family),
            min_keep=[min_keep(group) for group in asked],
            protected=[scope.index(block) for block in protected],
            weights=[
                part * (1.0 if weights is None else weights[g.block]) for part, g in zip(parts, asked, strict=True)
            ],
            strict=budget.strict,
        )
    except BudgetError as error:
        raise BudgetError(f"level {budget.level}, {family}: {error}") from error


def _block_plan(block: int, groups: Sequence[StructuredGroup], gone: Mapping[Key, list[int]]) -> BlockPlan:
    sizes, keep = {}, {}
    for group in groups:
        if group.block == block:
            per_unit = 1 if group.family == "heads" else group.unit_size
            dropped = {unit * per_unit + offset for unit in gone[block, group.family] for offset in range(per_unit)}
            sizes[group.family] = group.n_units * per_unit
            keep[group.family] = tuple(index for index in range(sizes[group.family]) if index not in dropped)
    return BlockPlan(block, sizes["heads"], sizes["neurons"], keep["heads"], keep["neurons"])


def _notes(counts: Mapping[Family, Quotas], budget: Budget) -> dict[str, Any]:
    per_unit = {"heads": 1, "neurons": budget.mlp_group_size}
    notes: dict[str, Any] = {
        "requested": {family: asked.requested * per_unit[family] for family, asked in counts.items()},
        "saturated": [family for family, asked in counts.items() if asked.saturated],
        "mlp_group_size": budget.mlp_group_size,
    }
    if budget.quotas == "sensitivity":
        notes["tau"] = budget.tau
    if budget.ranking == "global":
        notes |= {"gamma": budget.exponent, "cost": budget.cost}
    return notes
