"""What each level removes from an encoder and what is left of its cost: the rows of `medcore-bench plan`."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn

from .._support.errors import BudgetError
from ..models.groups import FAMILY_NAMES
from ..pruning.cost import Cost, count
from ..pruning.level import Level
from ..pruning.plan import Plan
from ..pruning.planning import make_plan
from ..pruning.surgery import prune
from .grid import Grid


@dataclass(frozen=True)
class PlanRow:
    """One plan and what it leaves.

    Attributes:
        label: What the row is called.
        plan: In the indices of the unpruned model; None for the unpruned model itself.
        cost: Of what is left.
        effective: Shares of heads and of neurons that go, of those that the level was asked of.
        saturated: Families that cannot give what the level asks for.
    """

    label: str
    plan: Plan | None
    cost: Cost
    effective: tuple[float, float] = (0.0, 0.0)
    saturated: tuple[str, ...] = ()

    def record(self, dense: Cost) -> dict[str, Any]:
        """Return the row as plain values, one a column of the CSV file."""
        heads, neurons = (sum(getattr(block, family) for block in dense.per_block) for family in FAMILY_NAMES)
        return {
            "level": self.label,
            "heads_removed": heads - sum(block.heads for block in self.cost.per_block),
            "heads": heads,
            "neurons_removed": neurons - sum(block.neurons for block in self.cost.per_block),
            "neurons": neurons,
            "effective_heads": self.effective[0],
            "effective_neurons": self.effective[1],
            "saturated": " ".join(self.saturated),
            "params": self.cost.params,
            "params_removed": self.cost.params_removed(dense),
            "flops": self.cost.flops,
            "flops_removed": self.cost.flops_removed(dense),
            "convention": self.cost.convention,
            "plan_hash": self.plan.hash if self.plan else "",
        }


def row_of(model: nn.Module, label: str, asked: Plan, whole: Plan, convention: str) -> PlanRow:
    """Cost one plan.

    Args:
        model: The unpruned model.
        label: What the row is called.
        asked: The plan that the level made; its effective fractions are the row's.
        whole: Everything that is gone by then, in the indices of `model`.
        convention: Of the FLOPs.
    """
    effective = (asked.effective_fraction("heads"), asked.effective_fraction("neurons"))
    # a stored plan's notes are whatever its author left there
    noted = asked.notes.get("saturated")
    saturated = tuple(family for family in FAMILY_NAMES if isinstance(noted, list) and family in noted)
    return PlanRow(label, whole, count(model, whole, convention), effective, saturated)


def one_time(model: nn.Module, levels: Sequence[Level], convention: str, **options: Any) -> Iterator[PlanRow]:
    """Yield a row a level; `options` go to `make_plan`."""
    for level in levels:
        plan = make_plan(model, level, **options)
        yield row_of(model, str(level), plan, plan, convention)


def sequential(
    model: nn.Module, first: Level, levels: Sequence[Level], convention: str, **options: Any
) -> Iterator[PlanRow]:
    """Yield a row a level of the second pass: what `first` protected, pruned alone (METHOD section 7).

    Raises:
        BudgetError: The first pass protects nothing, so that there is nothing for a second one.
    """
    before = make_plan(model, first, **options)
    if not before.protected:
        raise BudgetError("a second pass prunes the blocks that the first one protected: protect at least one")
    left = prune(model, before)
    for level in levels:
        second = make_plan(left, level, **{**options, "protect": None, "only": before.protected})
        yield row_of(model, f"{first} then {level}", second, before.then(second), convention)


def summary(rows: Sequence[PlanRow], title: str, footer: Sequence[str]) -> Grid:
    """Lay the rows out beside the first one, the unpruned model."""
    columns = ("level", "heads out", "neurons out", "effective", "params", "removed", "FLOPs", "removed", "saturated")
    return Grid(title, columns, [_cells(row, rows[0].cost) for row in rows], footer)


def _cells(row: PlanRow, dense: Cost) -> list[str]:
    record = row.record(dense)
    heads, neurons = row.effective
    return [
        row.label,
        f"{record['heads_removed']} of {record['heads']}",
        f"{record['neurons_removed']} of {record['neurons']}",
        f"{heads:.1%} / {neurons:.1%}",
        f"{row.cost.params_m:.1f}M" if dense.params >= 10_000_000 else f"{row.cost.params_m:.3f}M",
        f"{record['params_removed']:.1%}",
        f"{row.cost.flops_g:.1f}G" if dense.flops >= 10_000_000_000 else f"{row.cost.flops_g:.4f}G",
        f"{record['flops_removed']:.1%}",
        " and ".join(row.saturated),
    ]


def block_map(rows: Sequence[PlanRow]) -> Grid:
    """Show how many heads and neurons every block keeps under every plan."""
    cells = [
        [f"{block.block} {f'window {block.window}' if block.window else 'global'}"]
        + [f"{row.cost.per_block[block.block].heads} / {row.cost.per_block[block.block].neurons}" for row in rows]
        for block in rows[0].cost.per_block
    ]
    return Grid("Kept by each block: heads / neurons", ["block", *(row.label for row in rows)], cells)
