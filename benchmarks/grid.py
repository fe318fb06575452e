"""A small table of text cells that shows alike in the terminal and in Markdown."""

import sys
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

_WIDTH_WHEN_PIPED = 200


@dataclass(frozen=True)
class Grid:
    """A titled table.

    Attributes:
        title: One line above.
        columns: Headings.
        rows: As many cells a row as there are columns.
        footer: Lines below.
        sections: Numbers of the rows that a rule is drawn above, in the terminal.
        left: How many columns, from the first, are aligned left; the others right.
    """

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    footer: Sequence[str] = ()
    sections: Collection[int] = ()
    left: int = 1

    def markdown(self) -> str:
        """Write title, table and footer as Markdown."""
        cells = [
            list(self.columns),
            ["---"] * self.left + ["---:"] * (len(self.columns) - self.left),
            *map(list, self.rows),
        ]
        lines = ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in cells]
        return "\n".join([f"### {self.title}", "", *lines, "", *(f"{line}  " for line in self.footer), ""])

    def show(self, console: Console | None = None) -> None:
        """Print the table; output that is no terminal is not folded to a terminal's width."""
        console = console or Console(width=None if sys.stdout.isatty() else _WIDTH_WHEN_PIPED)
        table = Table(title=Text(self.title), box=box.SIMPLE_HEAD, title_justify="left")
        for place, heading in enumerate(self.columns):
            table.add_column(Text(heading), justify="left" if place < self.left else "right")
        for place, row in enumerate(self.rows):
            if place in self.sections:
                table.add_section()
            table.add_row(*map(Text, row))
        console.print(table)
        for line in self.footer:
            console.print(Text(line, style="dim"))
