"""What a search is asked for: the cost of a level, or a share of all cost, and which groups may give."""

from dataclasses import dataclass

from torch import nn

from ..._support.errors import BudgetError, require_known
from ...models.groups import FAMILY_NAMES, Family, StructuredGroup, groups_of
from ...pruning.budget import Budget
from ...pruning.cost import UNIT_COSTS, count, unit_costs
from ...pruning.level import Level
from ...pruning.plan import Plan
from ...pruning.planning import make_plan
from ...pruning.target import Target
from .states import Ladders, ladder


@dataclass(frozen=True)
class Goal:
    """A level or target for one model, and the unit that its cost is counted in; `protected` blocks keep everything."""

    model: nn.Module
    goal: Level | Target
    cost: str
    protect: int | None

    @classmethod
    def of(cls, model: nn.Module, goal: Level | Target | str, cost: str, protect: int | None) -> "Goal":
        """Read a goal; a target says its unit itself."""
        require_known("cost", cost, UNIT_COSTS, BudgetError)
        if isinstance(goal, Target) or (isinstance(goal, str) and "=" in goal):
            target = Target.parse(goal)
            return cls(model, target, target.unit, protect)
        return cls(model, Level.parse(goal), cost, protect)

    @property
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
        costs = unit_costs(self.model, self.groups, self.cost)
        if isinstance(self.goal, Target):
            dense = getattr(count(self.model), self.goal.unit)
            return sum(group.n_units * costs[group.block, group.family] for group in self.groups) - (
                self.goal.fraction * dense
            )
        blocks = self._policy(self.goal).blocks
        return sum(len(blocks[block].keep(family)) * each for (block, family), each in costs.items())

    def ladders(self) -> Ladders:
        """What the search may do.

        Raises:
            BudgetError: So much cannot go; the message says how much can.
        """
        each, groups = unit_costs(self.model, self.groups, self.cost), self.groups
        counts = [(group.n_units,) if group.block in self.protected else ladder(group) for group in groups]
        keys = tuple((group.block, group.family) for group in groups)
        costs = tuple(tuple(n * each[key] for n in kept) for key, kept in zip(keys, counts, strict=True))
        most = sum(kept[-1] - kept[0] for kept in costs)
        if sum(kept[0] for kept in costs) > self.kept:
            share = int(1e4 * most / getattr(count(self.model), self.cost)) / 100
            raise BudgetError(
                f"{self.goal}: at most {share:g} % of the encoder's {self.cost} can go: each block that is not "
                "protected keeps a head and 5 % of its neurons; ask for less, or protect fewer blocks"
            )
        return Ladders(keys, tuple(counts), costs, self.kept)

    def shares(self) -> dict[Family, float]:
        """Share of a family's units that blocks keep where the search starts: the same for all."""
        open_groups = [group for group in self.groups if group.block not in self.protected]
        if isinstance(self.goal, Target):
            costs = unit_costs(self.model, self.groups, self.cost)
            total = sum(group.n_units * costs[group.block, group.family] for group in self.groups)
            loose = sum(group.n_units * costs[group.block, group.family] for group in open_groups)
            return dict.fromkeys(FAMILY_NAMES, 1 - (total - self.kept) / loose)
        blocks = self._policy(self.goal).blocks
        shares: dict[Family, float] = {}
        for family in FAMILY_NAMES:
            of_family = [group for group in open_groups if group.family == family]
            left = sum(len(blocks[group.block].keep(family)) for group in of_family)
            shares[family] = left / sum(group.n_units for group in of_family)
        return shares

    def _policy(self, level: Level) -> Plan:
        """The paper's policy at a level; which units go does not matter here."""
        return make_plan(self.model, level, protect=self.protect)
