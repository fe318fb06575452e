"""A small table that reads alike in the terminal and in Markdown."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..._support.errors import MedcorePruneError
from ..._support.files import atomic_write
from ...pruning.cost import Cost
from ...pruning.plan import Plan


@dataclass(frozen=True)
class Table:
    """A table of text cells; so many columns as `left` says, from the first, are aligned left, the others right."""

    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    left: int = 1

    def __post_init__(self) -> None:
        if any(len(row) != len(self.columns) for row in self.rows):
            raise MedcorePruneError(f"a table of {len(self.columns)} columns has a row of another length")

    def text(self) -> str:
        """Write columns as wide as their cells, two spaces apart, under a ruled heading."""
        widths = [max(map(len, column)) for column in zip(self.columns, *self.rows, strict=True)]
        lines = [self._line(self.columns, widths), "  ".join("-" * width for width in widths)]
        return "\n".join([*lines, *(self._line(row, widths) for row in self.rows)])

    def markdown(self) -> str:
        """Write a Markdown table."""
        rule = ["---"] * self.left + ["---:"] * (len(self.columns) - self.left)
        rows = [self.columns, rule, *self.rows]
        return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows)

    def _line(self, row: Sequence[str], widths: Sequence[int]) -> str:
        cells = (
            cell.ljust(width) if place < self.left else cell.rjust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        return "  ".join(cells).rstrip()


_BAR = 24
_EIGHTHS = " ▏▎▍▌▋▊▉"
_COLOURS = {"heads": "#e5532d", "neurons": "#3b7dd8"}
_EMPTY = "#e3e8ec"


def bar(kept: int, size: int, width: int = _BAR) -> str:
    """Draw a share as a bar of eighths of a character, what is gone as dots."""
    eighths = round(8 * width * kept / size)
    full, part = divmod(eighths, 8)
    drawn = "█" * full + (_EIGHTHS[part] if part else "")
    return drawn.ljust(width, "·")


def blocks_table(plan: Plan, left: Cost, bars: bool = False) -> Table:
    """Tabulate heads, neurons and cost of every block, the sizes before by the plan, the cost after by `left`.

    `bars` draws the shares beside the numbers, for a terminal.
    """
    columns = ["block", "attention", "heads", "neurons", "params, M", "FLOPs, G"]
    rows = []
    for part, cost in zip(plan.blocks, left.per_block, strict=True):
        heads, neurons = ((len(part.keep(family)), part.size(family)) for family in ("heads", "neurons"))
        row = [
            str(part.block),
            f"{cost.window} x {cost.window}" if cost.window else "global",
            f"{heads[0]} of {heads[1]}",
            f"{neurons[0]} of {neurons[1]}",
            f"{cost.params / 1e6:.3f}",
            f"{cost.flops / 1e9:.3f}",
        ]
        rows.append(row + ([bar(*heads, width=12), bar(*neurons)] if bars else []))
    return Table([*columns, "heads left", "neurons left"] if bars else columns, rows, left=2)


def draw_blocks(plan: Plan, title: str, place: Path) -> None:
    """Draw what every block keeps, heads beside neurons, as PNG or SVG by the name's suffix; whole or not at all."""
    from matplotlib.figure import Figure

    count = len(plan.blocks)
    figure = Figure(figsize=(7.2, 1.4 + 0.26 * count), layout="constrained")
    axes: Any = figure.subplots(1, 2, sharey=True)
    for axis, family in zip(axes, ("heads", "neurons"), strict=True):
        shares = [len(block.keep(family)) / block.size(family) for block in plan.blocks]
        axis.barh(range(count), [1.0] * count, color=_EMPTY, height=0.72)
        axis.barh(range(count), shares, color=_COLOURS[family], height=0.72)
        for block, share in zip(plan.blocks, shares, strict=True):
            words = f"{len(block.keep(family))} of {block.size(family)}"
            inside = share > 0.45
            axis.text(
                share - 0.02 if inside else share + 0.02,
                block.block,
                words,
                ha="right" if inside else "left",
                va="center",
                fontsize=7.5,
                color="white" if inside else "#25303b",
            )
        gone = plan.removed(family) / sum(block.size(family) for block in plan.blocks)
        axis.set_title(f"{family}: {1 - gone:.0%} left", loc="left", fontsize=10)
        axis.set_xlim(0, 1)
        axis.set_xticks([0, 0.5, 1], ["0", "half", "all"])
        for side in ("top", "right", "left"):
            axis.spines[side].set_visible(False)
        axis.tick_params(left=False)
    axes[0].set_yticks(range(count))
    axes[0].set_ylim(count - 0.4, -0.6)
    axes[0].set_ylabel("block, shallowest first")
    figure.suptitle(title, fontsize=11, x=0.01, ha="left")
    with atomic_write(place) as temporary:
        figure.savefig(temporary, dpi=150)
