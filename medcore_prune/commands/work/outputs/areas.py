"""How large what was segmented is, as a table beside the masks."""

from collections.abc import Iterable, Sequence
from pathlib import Path

import pandas as pd

from ...._support.errors import DataError, WriteError
from ...._support.files import write_text_atomic
from ....data.csv_table import csv_text, read_written
from ....data.images import image_spacing
from ....data.prompts import Box
from .masks import Format

NAME = "areas.csv"
_TEXTS = ("file", "image")
COLUMNS = (*_TEXTS, "object", "x0", "y0", "x1", "y1", "area_px", "share_of_image", "area_mm2")
"""`file` holds the mask of `object`, counted from 0 in the boxes' order; `share_of_image` lies in [0, 1]; `area_mm2` is
empty where the image says no pixel spacing."""


def require_own(folder: Path) -> None:
    """Refuse a table of that name that is another one, before any work.

    Raises:
        WriteError: It has other columns.
    """
    _read(folder)


def _read(folder: Path) -> pd.DataFrame:
    place = folder / NAME
    if not place.exists():
        return pd.DataFrame(columns=list(COLUMNS))
    try:
        table = read_written(place, _TEXTS)
    except (OSError, ValueError) as error:
        raise WriteError(
            f"{place} is not the table that goes there ({error}): move it, or choose another --out"
        ) from error
    if tuple(table.columns) != COLUMNS:
        raise WriteError(f"{place} is not the table that goes there: move it, or choose another --out")
    return table


def rows_of(image: Path, boxes: Sequence[Box], masks: Sequence[Path], form: Format) -> list[list[object]]:
    """Measure the masks of an image as they were written, a row of `COLUMNS` an object.

    Raises:
        DataError: A mask, or the image's spacing, cannot be read.
    """
    try:
        found = form.read(masks)
    except (OSError, ValueError) as error:
        raise DataError(f"{masks[0]}: could not be read again to measure it ({error})") from error
    spacing = image_spacing(image)
    names = [place.name for place in masks] if len(masks) == len(boxes) else [masks[0].name] * len(boxes)
    rows = list[list[object]]()
    for number, (name, box, mask) in enumerate(zip(names, boxes, found, strict=True)):
        area = int(mask.sum())
        square = "" if spacing is None else area * spacing[0] * spacing[1]
        rows.append([name, image.name, number, *map(float, box), area, area / mask.size, square])
    return rows


def known(folder: Path) -> set[str]:
    """Files whose masks the table has."""
    return set(_read(folder)["file"])


def add(folder: Path, rows: Iterable[Sequence[object]]) -> None:
    """Write rows into the table, in place of those of the same files; rows of other files stay."""
    made = pd.DataFrame(list(rows), columns=list(COLUMNS))
    if made.empty:
        return
    before = _read(folder)
    kept = before[~before["file"].isin(set(made["file"]))]
    table = pd.concat([kept.astype(object), made.astype(object)]) if len(kept) else made
    for name in ("object", "area_px"):
        table[name] = table[name].astype(int)
    write_text_atomic(folder / NAME, csv_text(table))
