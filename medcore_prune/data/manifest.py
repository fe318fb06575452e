"""A folder's own `manifest.csv`: which files belong together, and what must stay on one side of a split."""

import csv
from dataclasses import replace
from pathlib import Path, PureWindowsPath

from ..errors import DataError
from .listing import Entry, Listing, is_file

FILE_NAME = "manifest.csv"

_LONELY = ("image without mask", "mask without image")
_SHOWN = 80

Row = dict[str, str]


def honour_manifest(root: Path, listing: Listing, labels: bool = False) -> Listing:
    """Return the listing with names, pairs and groups as the folder's manifest states them.

    With the columns `image` and `mask` (several rows may share an image) each row is a sample called `name`, else by
    its mask's stem, and files that no row names are problems. The rows alone say what belongs together, so that two
    files of one stem (`x.png`, `x.jpg`) are two samples as soon as they have rows with names of their own. Without
    these columns, or for label maps, rows are found by `image` or `name` and give the `group`; an image that has no row
    is a problem, because its group is unknown.

    Paths are relative and stay within the folder, so that a manifest means the same wherever the folder is copied to,
    and one from elsewhere reads nothing else: absolute paths and `..` are problems. Symbolic links within the folder
    are followed. A backslash separates folders where no file has such a name.

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
        image, mask = _inside(root, row["image"]), _inside(root, row["mask"])
        if image is None or mask is None:
            outside = row["image"] if image is None else row["mask"]
            listing.report(f"path in {FILE_NAME} that leaves the folder", f"{outside[:_SHOWN]!r} (line {line})")
            continue
        name = row.get("name") or mask.stem
        listed |= {image, mask}
        if name in names:
            listing.report(f"name used twice in {FILE_NAME}", f"{name} (line {line})")
        elif not (row["image"] and row["mask"]):
            listing.report(f"row of {FILE_NAME} without image or mask", f"line {line}")
        elif not is_file(image) and not is_file(mask):
            listing.report(f"listed in {FILE_NAME} but not there", f"{image} and {mask}")
        elif not is_file(mask):
            listing.report("image without mask", str(image))
        elif not is_file(image):
            listing.report("mask without image", str(mask))
        else:
            # masks that share an image stay together even where no group is given
            listing.entries.append(Entry(name, image, (mask,), row.get("group") or row["image"]))
        names.add(name)
    _report_unlisted(found, listed, listing)
    return listing


def _inside(root: Path, text: str) -> Path | None:
    """Return the file that a manifest names, or None where the path would leave the folder."""
    windows = PureWindowsPath(text)
    if windows.anchor or text.startswith("/") or ".." in windows.parts:
        return None
    as_written = root / text
    return as_written if is_file(as_written) else root.joinpath(*windows.parts)


def _report_unlisted(found: Listing, listed: set[Path], listing: Listing) -> None:
    files = {path for entry in found.entries for path in (entry.image, *entry.masks)} | found.unpaired.keys()
    for path in sorted(files - listed):
        kind = found.unpaired.get(path)
        listing.report(kind if kind in _LONELY else f"not listed in {FILE_NAME}", str(path))


def _with_groups(root: Path, rows: list[Row], found: Listing) -> Listing:
    group_of_image = {_inside(root, row["image"]): row["group"] for row in rows if row.get("image")}
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
