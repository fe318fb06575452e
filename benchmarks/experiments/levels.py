"""`medcore-bench plan`: what goes where at a level, and what is left of parameters and FLOPs; needs no weights."""

import csv
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
from torch import nn

from ..._support.errors import BudgetError
from ..._support.files import read_json_file, write_text_atomic
from ...data.csv_table import guarded
from ...models.families import build_model, geometry_of
from ...models.groups import FAMILY_NAMES
from ...pruning.cost import Cost, count
from ...pruning.level import ONE_TIME_LEVELS, SEQUENTIAL_LEVELS, Level
from ...pruning.plan import Plan, replay, to_text
from ...pruning.planning import make_plan
from ...pruning.surgery import prune
from ..report.tables import Grid


@dataclass(frozen=True)
class PlanRow:
    """One plan, in the indices of the unpruned model, and what it leaves; without a plan, that model itself.

    `effective` are the shares of heads and of neurons that go, of those that the level was asked of; `saturated` the
    families that cannot give what the level asks for.
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
    """Cost one plan: `asked` is what the level made, `whole` all that is gone by then, in the indices of `model`."""
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
    """Yield a row a level of the second pass: what `first` protected, pruned alone (METHOD section 7)."""
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


_COUNTED = {
    "paper": "FLOPs as the paper counts them: no window padding, no relative positions, no neck",
    "full": "FLOPs of every matrix product and convolution that runs",
}


def run(
    kind: str,
    image_size: int | None,
    levels: tuple[Level, ...] | None,
    quotas: str,
    sensitivity_file: Path | None,
    tau: float,
    protect: int | None,
    mlp_group_size: int,
    second_levels: tuple[Level, ...] | None,
    first: Level,
    convention: str,
    strict: bool,
    per_block: bool,
    stored: tuple[Path, ...],
    out: Path | None,
    save: Path | None,
) -> None:
    """Show what each level removes from an encoder, and what parameters and FLOPs are left."""
    if quotas == "sensitivity" and sensitivity_file is None:
        raise click.UsageError("--quotas sensitivity needs the blocks' sensitivities: give --sensitivity FILE.json")
    model = build_model(kind, device="meta", image_size=image_size)
    options = {
        "quotas": quotas,
        "sensitivity": read_sensitivity(sensitivity_file) if sensitivity_file else None,
        "tau": tau,
        "protect": protect,
        "mlp_group_size": mlp_group_size,
        "strict": strict,
    }
    if levels is None and second_levels is None and protect != 0:
        second_levels = SEQUENTIAL_LEVELS
    rows = [PlanRow("none", None, count(model, convention=convention))]
    rows += one_time(model, ONE_TIME_LEVELS if levels is None else levels, convention, **options)
    rows += sequential(model, first, second_levels, convention, **options) if second_levels else []
    replayed = [_replayed(model, path, convention) for path in stored]
    _show(rows + replayed, _title(model, kind), _footer(model, options, convention), per_block, out)
    if save is not None:
        _save(rows, save)


def read_sensitivity(path: Path) -> list[float]:
    """Read a JSON list of numbers, or the list under the key `sensitivity`."""
    try:
        value = read_json_file(path)
    except (OSError, ValueError) as error:
        raise BudgetError(f"{path}: expected a JSON list of numbers, one a block ({error})") from error
    value = value.get("sensitivity") if isinstance(value, dict) else value
    if not isinstance(value, list) or not all(isinstance(v, int | float) and not isinstance(v, bool) for v in value):
        raise BudgetError(f'{path}: expected a JSON list of numbers, one a block, or {{"sensitivity": [...]}}')
    return [float(v) for v in value]


def _replayed(model: nn.Module, path: Path, convention: str) -> PlanRow:
    plan = replay(path, model)
    return row_of(model, path.stem, plan, plan, convention)


def _title(model: nn.Module, kind: str) -> str:
    geometry = geometry_of(model)
    return f"{kind} at {geometry.image_size} px: {geometry.tokens_side} x {geometry.tokens_side} tokens"


def _footer(model: nn.Module, options: dict[str, Any], convention: str) -> list[str]:
    protected = make_plan(model, Level(0, 0), protect=options["protect"]).protected
    blocks = to_text(protected) or "none"
    return [
        f"{options['quotas']} quotas; protected blocks: {blocks}; every block keeps a head and 5 % of its neurons",
        "effective: share of heads / neurons that goes, of the blocks that the level is asked of",
        _COUNTED[convention],
    ]


def _show(rows: list[PlanRow], title: str, footer: list[str], per_block: bool, out: Path | None) -> None:
    grids = [summary(rows, title, footer)] + ([block_map(rows)] if per_block else [])
    for grid in grids:
        grid.show()
    if out is None:
        return
    write_text_atomic(out / "plan.md", "\n".join(grid.markdown() for grid in grids))
    write_text_atomic(out / "plan.csv", _csv([row.record(rows[0].cost) for row in rows]))
    click.echo(f"tables: {out / 'plan.md'}, {out / 'plan.csv'}")


def _csv(records: list[dict[str, Any]]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, list(records[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows([{name: guarded(cell) for name, cell in record.items()} for record in records])
    return text.getvalue()


def _save(rows: list[PlanRow], folder: Path) -> None:
    plans = {row.label.replace(" ", "_"): row.plan for row in rows if row.plan is not None}
    for name, plan in plans.items():
        plan.save(folder / f"{name}.json")
    click.echo(f"plans: {len(plans)} in {folder}")
