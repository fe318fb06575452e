"""A small table that reads alike in the terminal and in Markdown."""

from collections.abc import Sequence
from dataclasses import dataclass

from .._support.errors import MedcorePruneError


@dataclass(frozen=True)
class Table:
    """A table of text cells.

    Attributes:
        columns: Headings.
        rows: As many cells a row as there are columns.
        left: How many columns, from the first, are aligned left; the others right.

    Raises:
        MedcorePruneError: A row of another length.
    """

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
