"""Make a pruning plan: level and quotas say how many units go, scores say which."""

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch_pruning as tp
from torch import nn

from .._support.errors import BudgetError
from ..calibration.sensitivity import block_sensitivity
from ..calibration.statistics import Statistics
from ..data.splits.split import Data
from ..models.groups import FAMILY_NAMES, Family, StructuredGroup, groups_of
from ..scoring.criterion import Criterion
from ..scoring.recipes import Baseline, Scores, scored
from .budget import (
    MIN_HEADS,
    Key,
    Quotas,
    check_scores,
    default_protect,
    lowest,
    lowest_under_cost,
    min_neurons,
    require_scores,
    sensitivity_weights,
)
from .budget import quotas as spread
from .cost import unit_costs
from .level import Level
from .plan import BlockPlan, Plan


@dataclass(frozen=True)
class _Request:
    """What every ranking needs to know; `quotas` are the counts that the level asks for."""

    model: nn.Module
    groups: list[StructuredGroup]
    scope: tuple[int, ...]
    protected: tuple[int, ...]
    quotas: Mapping[Family, Quotas]
    scores: Scores | None
    gamma: float | None
    cost: str

    def asked(self, key: Key) -> int:
        """Units that the quotas take from one group."""
        block, family = key
        return self.quotas[family].per_block[self.scope.index(block)] if block in self.scope else 0


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
    level = Level.parse(level)
    groups = groups_of(model, mlp_group_size)
    depth = len(groups) // len(FAMILY_NAMES)
    _check_options(quotas, ranking, gamma, scores)
    scope, protected = _scope(depth, protect, only)
    weights = QUOTA_MODES[quotas](sensitivity, tau, depth)
    counts = {f: _quotas_of(f, groups, level, scope, protected, weights, strict) for f in FAMILY_NAMES}
    checked = None if scores is None else check_scores(scores, {(g.block, g.family): g.n_units for g in groups})
    choose = _by_family if quotas == "ranked" else RANKINGS[ranking]
    gone = choose(_Request(model, groups, scope, protected, counts, checked, gamma, cost))
    return Plan(
        level=str(level),
        blocks=tuple(_block_plan(block, groups, gone) for block in range(depth)),
        criterion=criterion_name,
        quotas="global" if ranking == "global" else quotas,
        protected=protected,
        only=None if only is None else scope,
        notes=_notes(counts, mlp_group_size)
        | ({"tau": tau} if quotas == "sensitivity" else {})
        | ({"gamma": _default_gamma(gamma), "cost": cost} if ranking == "global" else {}),
    )


def _uniform(sensitivity: Sequence[float] | None, tau: float, depth: int) -> None:
    return None


def _by_sensitivity(sensitivity: Sequence[float] | None, tau: float, depth: int) -> list[float]:
    if sensitivity is None:
        raise BudgetError(
            "sensitivity quotas need the sensitivity of every block: calibrate first, or use uniform quotas"
        )
    if len(sensitivity) != depth:
        raise BudgetError(f"got {len(sensitivity)} sensitivities for {depth} blocks: expected one a block")
    return sensitivity_weights(sensitivity, tau)


QUOTA_MODES: dict[str, Callable[[Sequence[float] | None, float, int], list[float] | None]] = {
    "uniform": _uniform,
    "sensitivity": _by_sensitivity,
    # how many go is as under uniform quotas; where they go is for the scores to say
    "ranked": _uniform,
}


def _check_options(quotas: str, ranking: str, gamma: float | None, scores: Scores | None) -> None:
    for what, value, known in (("quotas", quotas, QUOTA_MODES), ("ranking", ranking, RANKINGS)):
        if value not in known:
            raise BudgetError(f"unknown {what} {value!r}: expected one of {', '.join(known)}")
    if quotas == "ranked" and scores is None:
        raise BudgetError("quotas='ranked' needs scores: they alone say where the budget goes")
    if ranking != "global":
        if gamma is not None:
            raise BudgetError(
                "gamma acts only under ranking='global': within one block and family all units cost the same, so it "
                "cannot change their order; leave it out"
            )
        return
    if scores is None:
        raise BudgetError("ranking='global' needs scores: they alone say where the budget goes")
    if quotas != "uniform":
        raise BudgetError("ranking='global' takes its budget from the uniform level: leave quotas at 'uniform'")
    if not math.isfinite(_default_gamma(gamma)):
        raise BudgetError(f"gamma is {gamma}: expected a finite number")


def _default_gamma(gamma: float | None) -> float:
    return 1.0 if gamma is None else float(gamma)


def _scope(depth: int, protect: int | None, only: Collection[int] | None) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return the blocks that the level is asked of, and those among them that keep everything."""
    if only is not None:
        if protect:
            raise BudgetError("`only` names the blocks to prune: leave `protect` out")
        scope = tuple(sorted(set(only)))
        if not scope or not all(isinstance(block, int) and 0 <= block < depth for block in scope):
            raise BudgetError(f"`only` is {sorted(only)}: expected at least one block between 0 and {depth - 1}")
        return scope, ()
    protect = default_protect(depth) if protect is None else protect
    if not 0 <= protect < depth:
        raise BudgetError(f"cannot protect {protect} of {depth} blocks: expected 0 to {depth - 1}, or nothing could go")
    return tuple(range(depth)), tuple(range(depth - protect, depth))


def _min_keep(group: StructuredGroup) -> int:
    if group.family == "heads":
        return MIN_HEADS
    return -(-min_neurons(group.n_units * group.unit_size) // group.unit_size)


def _quotas_of(
    family: Family,
    groups: Sequence[StructuredGroup],
    level: Level,
    scope: tuple[int, ...],
    protected: tuple[int, ...],
    weights: list[float] | None,
    strict: bool,
) -> Quotas:
    asked = [group for group in groups if group.family == family and group.block in scope]
    # the same share of every block, however large (METHOD section 13); exactly 1 where all are alike
    largest = max((group.n_units for group in asked), default=1)
    parts = [group.n_units / largest for group in asked]
    try:
        return spread(
            [group.n_units for group in asked],
            getattr(level, family),
            min_keep=[_min_keep(group) for group in asked],
            protected=[scope.index(block) for block in protected],
            weights=[
                part * (1.0 if weights is None else weights[g.block]) for part, g in zip(parts, asked, strict=True)
            ],
            strict=strict,
        )
    except BudgetError as error:
        raise BudgetError(f"level {level}, {family}: {error}") from error


def _by_block(request: _Request) -> dict[Key, list[int]]:
    counts = {(group.block, group.family): request.asked((group.block, group.family)) for group in request.groups}
    if request.scores is None:
        return {key: list(range(count)) for key, count in counts.items()}
    require_scores(request.scores, [key for key, count in counts.items() if count])
    return {key: lowest(request.scores[key], count) if count else [] for key, count in counts.items()}


def _caps(request: _Request) -> tuple[dict[Key, int], Scores]:
    """How many units of each group may go, and the scores of those where any may."""
    closed = set(request.protected) | set(range(len(request.groups))) - set(request.scope)
    caps = {(g.block, g.family): 0 if g.block in closed else g.n_units - _min_keep(g) for g in request.groups}
    scores = request.scores or {}
    require_scores(scores, [key for key, cap in caps.items() if cap])
    return caps, scores


def _by_family(request: _Request) -> dict[Key, list[int]]:
    caps, scores = _caps(request)
    gone: dict[Key, list[int]] = {}
    for family, quotas in request.quotas.items():
        of_family = {key: cap for key, cap in caps.items() if key[1] == family}
        gone |= lowest_under_cost(scores, dict.fromkeys(of_family, 1), of_family, quotas.removed, gamma=0.0)
    return gone


def _by_q(request: _Request) -> dict[Key, list[int]]:
    costs = unit_costs(request.model, request.groups, request.cost)
    caps, scores = _caps(request)
    budget = sum(request.asked(key) * costs[key] for key in caps)
    return lowest_under_cost(scores, costs, caps, budget, _default_gamma(request.gamma))


RANKINGS: dict[str, Callable[[_Request], dict[Key, list[int]]]] = {"block": _by_block, "global": _by_q}


def _block_plan(block: int, groups: Sequence[StructuredGroup], gone: Mapping[Key, list[int]]) -> BlockPlan:
    sizes, keep = {}, {}
    for group in groups:
        if group.block == block:
            per_unit = 1 if group.family == "heads" else group.unit_size
            dropped = {unit * per_unit + offset for unit in gone[block, group.family] for offset in range(per_unit)}
            sizes[group.family] = group.n_units * per_unit
            keep[group.family] = tuple(index for index in range(sizes[group.family]) if index not in dropped)
    return BlockPlan(block, sizes["heads"], sizes["neurons"], keep["heads"], keep["neurons"])


def _notes(counts: Mapping[Family, Quotas], mlp_group_size: int) -> dict[str, Any]:
    per_unit = {"heads": 1, "neurons": mlp_group_size}
    return {
        "requested": {family: asked.requested * per_unit[family] for family, asked in counts.items()},
        "saturated": [family for family, asked in counts.items() if asked.saturated],
        "mlp_group_size": mlp_group_size,
    }


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
