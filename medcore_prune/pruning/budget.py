"""What decides how much goes where, in one value; protection and minimal retention."""

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from .._support.errors import BudgetError, require_known
from ..models.groups import Family, StructuredGroup
from ..scoring.recipes import QUOTAS
from .level import Level
from .quotas import sensitivity_weights

Key = tuple[int, Family]
"""A group of units: its block and family."""

MIN_HEADS = 1
NEURONS_PER_KEPT = 20  # one neuron in twenty stays: METHOD's 5 %, as an integer so that the ceiling is exact
RANKINGS = ("block", "global")
SEARCHED = "searched"
"""Quotas that no rule gives: `correction.search` finds them, for it runs the network."""
NOTHING = Level(0, 0)


def default_protect(depth: int) -> int:
    """Return how many of the deepest blocks are protected by default: round(depth / 6)."""
    return round(depth / 6)


def min_neurons(neurons: int) -> int:
    """Return how many of a block's neurons always stay: ceil(5 %), at least one."""
    return max(1, -(-neurons // NEURONS_PER_KEPT))


def min_keep(group: StructuredGroup) -> int:
    """Return how many units of a group always stay: a head, or units that hold 5 % of the neurons."""
    if group.family == "heads":
        return MIN_HEADS
    return -(-min_neurons(group.n_units * group.unit_size) // group.unit_size)


@dataclass(frozen=True)
class Budget:
    """How much goes, and how it is spread (METHOD section 7); each field as the argument of `make_plan`.

    A word that is unknown, and settings that do not go together, are refused.
    """

    level: Level = NOTHING
    protect: int | None = None
    only: Collection[int] | None = None
    quotas: str = "uniform"
    tau: float = 0.5
    ranking: str = "block"
    gamma: float | None = None
    cost: str = "params"
    mlp_group_size: int = 1
    strict: bool = False

    def __post_init__(self) -> None:
        require_known("quotas", self.quotas, QUOTAS, BudgetError)
        require_known("ranking", self.ranking, RANKINGS, BudgetError)
        if self.ranking != "global" and self.gamma is not None:
            raise BudgetError(
                "gamma acts only under ranking='global': within one block and family all units cost the same, so it "
                "cannot change their order; leave it out"
            )
        if self.ranking == "global" and self.quotas != "uniform":
            raise BudgetError("ranking='global' takes its budget from the uniform level: leave quotas at 'uniform'")
        if not math.isfinite(self.exponent):
            raise BudgetError(f"gamma is {self.gamma}: expected a finite number")

    @property
    def exponent(self) -> float:
        """Gamma, the default included."""
        return 1.0 if self.gamma is None else float(self.gamma)

    def share(self, family: Family) -> float:
        """Share of a family's units that is asked to go."""
        return float(getattr(self.level, family))

    def scope(self, depth: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Return the blocks that the level is asked of, and those among them that keep everything."""
        if self.only is not None:
            if self.protect:
                raise BudgetError("`only` names the blocks to prune: leave `protect` out")
            scope = tuple(sorted(set(self.only)))
            if not scope or not all(isinstance(block, int) and 0 <= block < depth for block in scope):
                raise BudgetError(
                    f"`only` is {sorted(self.only)}: expected at least one block between 0 and {depth - 1}"
                )
            return scope, ()
        protect = default_protect(depth) if self.protect is None else self.protect
        if not 0 <= protect < depth:
            raise BudgetError(
                f"cannot protect {protect} of {depth} blocks: expected 0 to {depth - 1}, or nothing could go"
            )
        return tuple(range(depth)), tuple(range(depth - protect, depth))

    def weights(self, sensitivity: Sequence[float] | None, depth: int) -> list[float] | None:
        """Return the quota weight of every block from its s_b; None for equal ones."""
        if self.quotas != "sensitivity":
            return None
        if sensitivity is None:
            raise BudgetError(
                "sensitivity quotas need the sensitivity of every block: calibrate first, or use uniform quotas"
            )
        if len(sensitivity) != depth:
            raise BudgetError(f"got {len(sensitivity)} sensitivities for {depth} blocks: expected one a block")
        return sensitivity_weights(sensitivity, self.tau)
