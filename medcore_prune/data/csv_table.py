"""CSV files as rows of named cells, with what is odd about each row."""

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

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
