"""A folder's own `manifest.csv`: which files belong together, and what must stay on one side of a split."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path, PureWindowsPath

from ..._support.errors import DataError
from ..csv_table import Row, Table, read_table
from .layouts import Entry, Listing, is_file

FILE_NAME = "manifest.csv"

_LONELY = ("image without mask", "mask without image")
_SHOWN = 80
_KNOWN = ("name", "image", "mask", "group")
_NO_GROUP = f"no group in {FILE_NAME}"
_TWO_GROUPS = f"two groups for one image in {FILE_NAME}"
_TOO_LONG = f"row of {FILE_NAME} with more cells than columns"


def honour_manifest(root: Path, listing: Listing, labels: bool = False) -> Listing:
    """Return the listing with names, pairs and groups as the folder's manifest, where it has one, states them.

    With the columns `image` and `mask` (several rows may share an image) each row is a sample called `name`, else by
    its mask's stem, and files that no row names are problems. The rows alone say what belongs together, so that two
    files of one stem (`x.png`, `x.jpg`) are two samples as soon as they have rows with names of their own. Without
    these columns, or for label maps, rows are found by `image` or `name` and give the `group`; an image that has no row
    is a problem, because its group is unknown.

    Paths are relative and stay within the folder, so that a manifest means the same wherever the folder is copied to,
    and one from elsewhere reads nothing else: absolute paths and `..` are problems. Symbolic links within the folder
    are followed. A backslash separates folders where no file has such a name.

    Names of columns are taken in any case, as is the file's own. Without a column `group` a note names those that are
    not read, one of which may be meant for it; with it an empty cell is a problem, as are two groups of one image. So
    are rows of more cells than columns.
    """
    path = _file_in(root)
    if path is None:
        return listing
    table = read_table(path, _KNOWN)
    if {"image", "mask"} <= {*table.columns} and not labels:
        return _by_rows(root, table, _noted(listing, table))
    if "group" in table.columns and {"image", "name"} & {*table.columns}:
        return _with_groups(root, table.rows, listing)
    got = ",".join(map(_shown, table.columns))
    raise DataError(f"{path}: expected the columns name,group or image,mask[,name][,group], got {got}")


def _file_in(root: Path) -> Path | None:
    found = sorted(path for path in root.iterdir() if path.name.lower() == FILE_NAME and not path.is_dir())
    if len(found) > 1:
        raise DataError(f"{root}: expected one {FILE_NAME}, got {', '.join(path.name for path in found)}: remove one")
    return found[0] if found else None


def _noted(listing: Listing, table: Table) -> Listing:
    """Add to a listing which columns are not read, where none of those that are says what belongs together."""
    others = [_shown(column) for column in table.columns if column not in _KNOWN]
    if "group" in table.columns or not others:
        return listing
    note = (
        f"columns of {FILE_NAME} that are not read: {', '.join(others)}; what must stay on one side of a split goes "
        "into a column group"
    )
    return replace(listing, notes=[*listing.notes, note])


def _shown(text: str) -> str:
    return (text if text.isprintable() else ascii(text))[:_SHOWN]


def _by_rows(root: Path, table: Table, found: Listing) -> Listing:
    listing = Listing(notes=list(found.notes))
    listed: set[Path] = set()
    names: set[str] = set()
    group_of: dict[Path, str] = {}
    for row in table.rows:
        cells = {column: cell.strip() for column, cell in row.cells.items()}
        image, mask = _inside(root, cells["image"]), _inside(root, cells["mask"])
        if image is None or mask is None:
            outside = cells["image"] if image is None else cells["mask"]
            listing.report(f"path in {FILE_NAME} that leaves the folder", f"{outside[:_SHOWN]!r} (line {row.line})")
            continue
        name = cells.get("name") or mask.stem
        # masks that share an image stay together even where no group is given
        group = cells.get("group", group_of.get(image, cells["image"]))
        listed |= {image, mask}
        if name in names:
            listing.report(f"name used twice in {FILE_NAME}", f"{name} (line {row.line})")
        elif problem := _problem(row, image, mask):
            listing.report(*problem)
        elif not group:
            listing.report(_NO_GROUP, f"{image} (line {row.line})")
        elif group_of.setdefault(image, group) != group:
            listing.report(_TWO_GROUPS, f"{image}: {_shown(group_of[image])}, {_shown(group)} (line {row.line})")
        else:
            listing.entries.append(Entry(name, image, (mask,), group))
        names.add(name)
    _report_unlisted(found, listed, listing)
    return listing


def _problem(row: Row, image: Path, mask: Path) -> tuple[str, str] | None:
    """Return what is wrong with a row of an image and a mask, and where, if anything is."""
    if row.is_too_long:
        return _TOO_LONG, f"line {row.line}"
    if not (row.cells["image"].strip() and row.cells["mask"].strip()):
        return f"row of {FILE_NAME} without image or mask", f"line {row.line}"
    if not is_file(image) and not is_file(mask):
        return f"listed in {FILE_NAME} but not there", f"{image} and {mask}"
    if not is_file(mask):
        return "image without mask", str(image)
    return None if is_file(image) else ("mask without image", str(mask))


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


def _with_groups(root: Path, rows: Sequence[Row], found: Listing) -> Listing:
    listing = Listing(problems=found.problems, notes=found.notes)
    of_image: dict[Path | None, list[str]] = {}
    of_name: dict[str, list[str]] = {}
    for row in rows:
        image, name, group = (row.cells.get(column, "").strip() for column in ("image", "name", "group"))
        if row.is_too_long:
            listing.report(_TOO_LONG, f"line {row.line}")
        if image:
            of_image.setdefault(_inside(root, image), []).append(group)
        if name:
            of_name.setdefault(name, []).append(group)
    for entry in found.entries:
        names = (entry.name, entry.image.stem, entry.image.name)
        groups = of_image.get(entry.image) or next((of_name[name] for name in names if name in of_name), [])
        several = sorted({*groups})
        if not any(several):
            listing.report(_NO_GROUP, str(entry.image))
        elif len(several) > 1:
            listing.report(_TWO_GROUPS, f"{entry.image}: {', '.join(map(_shown, several))}")
        else:
            listing.entries.append(replace(entry, group=several[0]))
    return listing
