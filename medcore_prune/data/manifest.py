"""A folder's own `manifest.csv`: which files belong together, and what must stay on one side of a split."""

import csv
from dataclasses import replace
from pathlib import Path

from ..errors import DataError
from .listing import Entry, Listing

FILE_NAME = "manifest.csv"

Row = dict[str, str]


def honour_manifest(root: Path, listing: Listing, labels: bool = False) -> Listing:
    """Return the listing with names, pairs and groups as the folder's manifest states them.

    With the columns `image` and `mask` (paths within the folder; several rows may share an image) each row is a
    sample called `name`, else by its mask's stem, and files that no row names are problems. Without them, or for
    label maps, rows are found by `image` or `name` and give the `group`; an image that has no row is a problem,
    because its group is unknown.

    Args:
        root: The folder; without a manifest the listing is returned as it is.
        listing: What the layout's scan found.
        labels: The layout reads label maps.

    Raises:
        DataError: The manifest has none of the known columns, or cannot be read.
    """
    path = root / FILE_NAME
    if not path.is_file():
        return listing
    columns, rows = _read(path)
    if {"image", "mask"} <= columns and not labels:
        return _by_rows(root, rows, listing)
    if "group" in columns and columns & {"image", "name"}:
        return _with_groups(root, rows, listing)
    raise DataError(f"{path}: expected the columns name,group or image,mask[,name][,group], got {','.join(columns)}")


def _read(path: Path) -> tuple[set[str], list[Row]]:
    try:
        with path.open(newline="", encoding="utf-8-sig") as stream:
            reader = csv.DictReader(stream)
            rows = [{k: (v or "").strip() for k, v in row.items() if k} for row in reader]
            return set(reader.fieldnames or []), rows
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path}: expected a CSV file in UTF-8, could not read it ({error})") from error


def _by_rows(root: Path, rows: list[Row], found: Listing) -> Listing:
    listing = Listing(notes=list(found.notes))
    listed: set[Path] = set()
    names: set[str] = set()
    for line, row in enumerate(rows, start=2):
        image, mask = root / row["image"], root / row["mask"]
        name = row.get("name") or mask.stem
        listed |= {image, mask}
        if name in names:
            listing.report(f"name used twice in {FILE_NAME}", f"{name} (line {line})")
        elif not (row["image"] and row["mask"]):
            listing.report(f"row of {FILE_NAME} without image or mask", f"line {line}")
        elif not image.is_file() and not mask.is_file():
            listing.report(f"listed in {FILE_NAME} but not there", f"{image} and {mask}")
        elif not mask.is_file():
            listing.report("image without mask", str(image))
        elif not image.is_file():
            listing.report("mask without image", str(mask))
        else:
            # masks that share an image stay together even where no group is given
            listing.entries.append(Entry(name, image, (mask,), row.get("group") or row["image"]))
        names.add(name)
    _report_unlisted(found, listed, listing)
    return listing


def _report_unlisted(found: Listing, listed: set[Path], listing: Listing) -> None:
    kind_of = {text: kind for kind, texts in found.problems.items() for text in texts}
    paths = {path for entry in found.entries for path in (entry.image, *entry.masks)}
    paths |= {Path(text) for text in kind_of}
    for path in sorted(paths - listed):
        listing.report(kind_of.get(str(path), f"not listed in {FILE_NAME}"), str(path))


def _with_groups(root: Path, rows: list[Row], found: Listing) -> Listing:
    group_of_image = {root / row["image"]: row["group"] for row in rows if row.get("image")}
    group_of_name = {row["name"]: row["group"] for row in rows if row.get("name")}
    listing = Listing(problems=found.problems, notes=found.notes)
    for entry in found.entries:
        names = (entry.name, entry.image.stem, entry.image.name)
        group = group_of_image.get(entry.image) or next((g for n in names if (g := group_of_name.get(n))), None)
        if group is None:
            listing.report(f"no group in {FILE_NAME}", str(entry.image))
        else:
            listing.entries.append(replace(entry, group=group))
    return listing
