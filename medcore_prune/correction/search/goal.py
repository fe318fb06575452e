"""What a search is asked for: the cost of a level, or a share of all cost, and which groups may give."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

from torch import nn

from ..._support.errors import BudgetError, require_known
from ...models.groups import FAMILY_NAMES, Family, StructuredGroup, groups_of
from ...pruning.budget import Budget, Key
from ...pruning.cost import UNIT_COSTS, count, unit_costs
from ...pruning.level import Level
from ...pruning.plan import Plan
from ...pruning.planning import make_plan
from ...pruning.target import Target
from ...pruning.times import BlockTimes
from .states import Ladders, ladder

COSTS = (*UNIT_COSTS, "latency")
"""What a searched budget may be counted in."""


@dataclass(frozen=True)
class Goal:
    """A level or target for one model, and the unit that its cost is counted in; `protected` blocks keep everything.

    `times` say what latency is.
    """

    model: nn.Module
    goal: Level | Target
    cost: str
    protect: int | None
    times: BlockTimes | None = None

    @classmethod
    def of(
        cls,
        model: nn.Module,
        goal: Level | Target | str,
        cost: str,
        protect: int | None,
        measure: Callable[[], BlockTimes] | None = None,
    ) -> "Goal":
        """Read a goal; a target says its unit itself. `measure` is asked for times where latency is counted."""
        require_known("cost", cost, COSTS, BudgetError)
        wanted: Level | Target
        if isinstance(goal, Target) or (isinstance(goal, str) and "=" in goal):
            wanted = Target.parse(goal)
            cost = wanted.unit
        else:
            wanted = Level.parse(goal)
        times = measure() if cost == "latency" and measure is not None else None
        return cls(model, wanted, cost, protect, times)

    def cost_of(self, group: StructuredGroup, units: int) -> float:
        """Cost of so many units of a group."""
        key = (group.block, group.family)
        return units * self._each[key] if self.times is None else self.times.part(key, units)

    @property
    def dense(self) -> float:
        """Cost of the whole encoder."""
        return float(getattr(count(self.model), self.cost)) if self.times is None else self.times.encoder_ms()

    @cached_property
    def _each(self) -> dict[Key, int]:
        return unit_costs(self.model, self.groups, self.cost)

    @cached_property
    def groups(self) -> list[StructuredGroup]:
        """All groups of the model."""
        return groups_of(self.model)

    @property
    def protected(self) -> tuple[int, ...]:
        """Blocks that keep everything: those that were asked for, none by default."""
        return Budget(protect=self.protect or 0).scope(len(self.groups) // len(FAMILY_NAMES))[1]

    @property
    def kept(self) -> float:
        """Cost that the groups of all blocks may keep together."""
        if isinstance(self.goal, Target):
            return self._total(self.groups) - self.goal.fraction * self.dense
        blocks = self._policy(self.goal).blocks
        return sum(self.cost_of(group, len(blocks[group.block].keep(group.family))) for group in self.groups)

    def ladders(self) -> Ladders:
        """What the search may do.

        Raises:
            BudgetError: So much cannot go; the message says how much can.
        """
        groups = self.groups
        counts = [(group.n_units,) if group.block in self.protected else ladder(group) for group in groups]
        keys = tuple((group.block, group.family) for group in groups)
        costs = tuple(tuple(self.cost_of(group, n) for n in kept) for group, kept in zip(groups, counts, strict=True))
        most = sum(kept[-1] - kept[0] for kept in costs)
        if sum(kept[0] for kept in costs) > self.kept:
            share = int(1e4 * most / self.dense) / 100
            raise BudgetError(
                f"{self.goal}: at most {share:g} % of the encoder's {self.cost} can go: each block that is not "
                "protected keeps a head and 5 % of its neurons; ask for less, or protect fewer blocks"
            )
        return Ladders(keys, tuple(counts), costs, self.kept)

    def shares(self) -> dict[Family, float]:
        """Share of a family's units that blocks keep where the search starts: the same for all."""
        open_groups = [group for group in self.groups if group.block not in self.protected]
        if isinstance(self.goal, Target):
            total, loose = self._total(self.groups), self._total(open_groups)
            # what costs less per unit when there are few starts a little below its share
            return dict.fromkeys(FAMILY_NAMES, max(0.0, 1 - (total - self.kept) / loose))
        blocks = self._policy(self.goal).blocks
        shares: dict[Family, float] = {}
        for family in FAMILY_NAMES:
            of_family = [group for group in open_groups if group.family == family]
            left = sum(len(blocks[group.block].keep(family)) for group in of_family)
            shares[family] = left / sum(group.n_units for group in of_family)
        return shares

    def _total(self, groups: Sequence[StructuredGroup]) -> float:
        return sum(self.cost_of(group, group.n_units) for group in groups)

    def _policy(self, level: Level) -> Plan:
        """The paper's policy at a level; which units go does not matter here."""
        return make_plan(self.model, level, protect=self.protect)
