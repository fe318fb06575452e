"""Which units go: the lowest scores of each block, of each family, or of all groups under one cost."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from .._support.errors import BudgetError
from ..models.groups import FAMILY_NAMES, Family, StructuredGroup
from ..scoring.recipes import Scores
from .budget import Budget, Key, min_keep
from .cost import unit_costs
from .quotas import Quotas


class Unit(NamedTuple):
    """One unit in the order in which units go: by Q, then by block, family and place."""

    q: float
    block: int
    family: int
    place: int


def check_scores(scores: Mapping[Key, Tensor], units: Mapping[Key, int]) -> dict[Key, Tensor]:
    """Bring scores to float64 on the CPU; refuse groups that are not in `units`, wrong sizes, what is not finite."""
    checked = {}
    for key, score in scores.items():
        if key not in units:
            raise BudgetError(f"scores for {key!r} belong to no group: expected (block, 'heads' or 'neurons')")
        block, family = key
        what = f"the scores of {family} in block {block}"
        if tuple(score.shape) != (units[key],):
            raise BudgetError(f"{what} have shape {tuple(score.shape)}: expected ({units[key]},), one a unit")
        values = score.detach().cpu().double()
        bad = (~torch.isfinite(values)).nonzero().flatten().tolist()
        if bad:
            raise BudgetError(
                f"{what} are not finite at {len(bad)} of {units[key]} units, first {bad[0]}: expected finite scores"
            )
        checked[key] = values
    return checked


def require_scores(scores: Mapping[Key, Tensor], keys: list[Key]) -> None:
    """Refuse when units of a group have to be chosen and nothing ranks them."""
    missing = [f"{family} of block {block}" for block, family in keys if (block, family) not in scores]
    if missing:
        raise BudgetError(f"no scores for {', '.join(missing[:5])} ({len(missing)} groups in all): score every group")


def lowest(score: Tensor, count: int) -> list[int]:
    """Return the indices of the `count` lowest scores, ascending; of equal scores the lower index goes first."""
    return sorted(torch.argsort(score, stable=True)[:count].tolist())


def lowest_under_cost(
    scores: Mapping[Key, Tensor], costs: Mapping[Key, int], caps: Mapping[Key, int], budget: int, gamma: float
) -> dict[Key, list[int]]:
    """Remove units of all groups together, lowest Q = S / c^gamma first, until their cost reaches a budget.

    The greedy answer to Eq. 2, sum_g (1 - m_g) c_g >= C: it overshoots by less than the cost of its last unit. `costs`
    has the cost of one unit, `caps` how many units may go, `budget` is C; gamma 0 ranks by S alone.
    """
    order = [
        Unit(value / costs[block, family] ** gamma, block, FAMILY_NAMES.index(family), index)
        for (block, family), cap in caps.items()
        if cap
        for index, value in enumerate(scores[block, family].tolist())
    ]
    gone: dict[Key, list[int]] = {key: [] for key in caps}
    spent = 0
    for unit in sorted(order):
        if spent >= budget:
            break
        key = (unit.block, FAMILY_NAMES[unit.family])
        if len(gone[key]) < caps[key]:
            gone[key].append(unit.place)
            spent += costs[key]
    return {key: sorted(indices) for key, indices in gone.items()}


@dataclass(frozen=True)
class Request:
    """What a ranking needs to know; `quotas` are the counts that the level asks for, of the blocks in `scope`."""

    model: nn.Module
    groups: list[StructuredGroup]
    budget: Budget
    scope: tuple[int, ...]
    protected: tuple[int, ...]
    quotas: Mapping[Family, Quotas]
    scores: Scores | None

    def asked(self, key: Key) -> int:
        """Units that the quotas take from one group."""
        block, family = key
        return self.quotas[family].per_block[self.scope.index(block)] if block in self.scope else 0

    def choose(self) -> dict[Key, list[int]]:
        """Return which units of each group go."""
        return _by_family(self) if self.budget.quotas == "ranked" else _BY[self.budget.ranking](self)


def _by_block(request: Request) -> dict[Key, list[int]]:
    counts = {(group.block, group.family): request.asked((group.block, group.family)) for group in request.groups}
    if request.scores is None:
        return {key: list(range(count)) for key, count in counts.items()}
    require_scores(request.scores, [key for key, count in counts.items() if count])
    return {key: lowest(request.scores[key], count) if count else [] for key, count in counts.items()}


def _caps(request: Request) -> tuple[dict[Key, int], Scores]:
    """How many units of each group may go, and the scores of those where any may."""
    closed = set(request.protected) | set(range(len(request.groups))) - set(request.scope)
    caps = {(g.block, g.family): 0 if g.block in closed else g.n_units - min_keep(g) for g in request.groups}
    scores = request.scores or {}
    require_scores(scores, [key for key, cap in caps.items() if cap])
    return caps, scores


def _by_family(request: Request) -> dict[Key, list[int]]:
    caps, scores = _caps(request)
    gone: dict[Key, list[int]] = {}
    for family, quotas in request.quotas.items():
        of_family = {key: cap for key, cap in caps.items() if key[1] == family}
        gone |= lowest_under_cost(scores, dict.fromkeys(of_family, 1), of_family, quotas.removed, gamma=0.0)
    return gone


def _by_q(request: Request) -> dict[Key, list[int]]:
    costs = unit_costs(request.model, request.groups, request.budget.cost)
    caps, scores = _caps(request)
    spent = sum(request.asked(key) * costs[key] for key in caps)
    return lowest_under_cost(scores, costs, caps, spent, request.budget.exponent)


_BY: dict[str, Callable[[Request], dict[Key, list[int]]]] = {"block": _by_block, "global": _by_q}
