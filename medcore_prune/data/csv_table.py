"""CSV files as rows of named cells, with what is odd about each row; and tables as CSV that no spreadsheet runs."""

import csv
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from .._support.errors import DataError
from .._support.files import not_a_file, too_large


@dataclass(frozen=True)
class Row:
    """One row: the line where it ends, from 1, and each column's text as it stands, "" where the row is too short.

    It is too long with more cells than there are columns, empty ones at its end apart, as decimal commas and bare
    commas in names make.
    """

    line: int
    cells: Mapping[str, str]
    is_too_long: bool


@dataclass(frozen=True)
class Table:
    """A file's columns in order and its rows; columns without a name are left out."""

    columns: Sequence[str]
    rows: Sequence[Row]


def read_table(path: Path, known: Sequence[str]) -> Table:
    """Read a CSV file in UTF-8 whose first line names the columns, in any case and with spaces around.

    Columns that are `known`, in lower case, may be there once only.
    """
    if problem := not_a_file(path) or too_large(path):
        raise DataError(f"{path}: {problem}; expected a CSV file in UTF-8")
    try:
        with path.open(newline="", encoding="utf-8-sig") as stream:
            reader = csv.reader(stream)
            header = [name.strip().lower() for name in next(reader, [])]
            lines = [(reader.line_num, cells) for cells in reader if cells]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path}: expected a CSV file in UTF-8, could not read it ({error})") from error
    if twice := [name for name in known if header.count(name) > 1]:
        raise DataError(f"{path}: expected each column once, got {', '.join(twice)} twice: remove one")
    rows = [_row(line, header, cells) for line, cells in lines]
    return Table([name for name in header if name], rows)


def _row(line: int, header: list[str], cells: list[str]) -> Row:
    filled = cells + [""] * (len(header) - len(cells))
    named = {name: cell for name, cell in zip(header, filled, strict=False) if name}
    return Row(line, named, any(cells[len(header) :]))


_FORMULA = re.compile(r"'*[=+\-@\t\r]")


def guarded(cell: Any) -> Any:
    """A text cell with an apostrophe before what a spreadsheet would run as a formula; other cells as they are."""
    return f"'{cell}" if isinstance(cell, str) and _FORMULA.match(cell) else cell


def unguarded(cell: str) -> str:
    """The text that `guarded` made a cell of."""
    return cell[1:] if cell.startswith("'") and _FORMULA.match(cell) else cell


def read_written(path: Path, texts: Collection[str]) -> pd.DataFrame:
    """Read what `csv_text` wrote: columns of `texts` stay texts (an image may be called `NA`, a group 007), all others
    are numbers, to the last bit.
    """
    table = pd.read_csv(path, dtype=str, keep_default_na=False)
    for column in table.columns:
        table[column] = [unguarded(cell) if column in texts else float(cell or "nan") for cell in table[column]]
    return table


def csv_text(table: pd.DataFrame) -> str:
    """Write a table as CSV, without its index; texts are `guarded`, numbers stay numbers."""
    safe = table.assign(**{name: table[name].map(guarded) for name in table.select_dtypes(exclude="number").columns})
    # the end of a line within a text, which is not quoted by itself
    returns = any("\r" in cell for cells in safe.to_numpy(object) for cell in cells if isinstance(cell, str))
    if returns:
        return str(safe.to_csv(index=False, lineterminator="\n", quoting=csv.QUOTE_NONNUMERIC))
    return str(safe.to_csv(index=False, lineterminator="\n"))
