"""A folder's own `manifest.csv`: which files belong together, and what must stay on one side of a split."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path, PureWindowsPath
from unicodedata import normalize

from ..._support.errors import DataError
from ..csv_table import Row, Table, read_table
from .listing import NO_IMAGE, NO_MASK, Entry, Listing, is_file
from .names import composed, role_of, stem_of

FILE_NAME = "manifest.csv"

_LONELY = (NO_MASK, NO_IMAGE)
_SHOWN = 80
_KNOWN = ("name", "image", "mask", "group", "split", "spacing_mm")
_NO_GROUP = f"no group in {FILE_NAME}"
_TWO_GROUPS = f"two groups for one image in {FILE_NAME}"
_NO_ROLE = f"no part of the split in {FILE_NAME} (expected train, validation or test)"
_TWO_ROLES = f"two parts of the split for one image in {FILE_NAME}"
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

    A column `split` says which samples are for training, validation (or val) and test; all must say it. A column
    `spacing_mm` has the distance of an image's pixels: one number, or two (`0.4 0.3`: from row to row, from column to
    column); an empty cell says that nobody knows.

    Names of columns are taken in any case, as is the file's own. Without a column `group` a note names those that are
    not read, one of which may be meant for it; with it an empty cell is a problem, as are two groups of one image. So
    are rows of more cells than columns.
    """
    path = _file_in(root)
    if path is None:
        return listing
    table = read_table(path, _KNOWN)
    if {"image", "mask"} <= {*table.columns} and not labels and not any(entry.part for entry in listing.entries):
        return _by_rows(root, table, _noted(listing, table))
    if {"group", "split", "spacing_mm"} & {*table.columns} and {"image", "name"} & {*table.columns}:
        return _with_columns(root, table, listing)
    got = ",".join(map(_shown, table.columns))
    raise DataError(f"{path}: expected the columns name,group or image,mask[,name][,group][,split], got {got}")


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
    role_by_folder = {entry.image: entry.role for entry in found.entries}
    role_of_image: dict[Path, str | None] = {}
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
        name = composed(cells.get("name") or stem_of(mask))
        role = role_of([cells["split"]]) if "split" in cells else role_by_folder.get(image)
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
        elif "split" in cells and role is None:
            listing.report(_NO_ROLE, f"{image}: {_shown(cells['split'])!r} (line {row.line})")
        elif role_of_image.setdefault(image, role) != role:
            listing.report(_TWO_ROLES, f"{image}: {role_of_image[image]}, {role} (line {row.line})")
        else:
            entry = Entry(name, image, (mask,), group, role=role)
            listing.entries.append(_with_spacing(entry, [row], listing))
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
        return NO_MASK, str(image)
    return None if is_file(image) else (NO_IMAGE, str(mask))


def _inside(root: Path, text: str) -> Path | None:
    """Return the file that a manifest names, or None where the path would leave the folder."""
    windows = PureWindowsPath(text)
    if windows.anchor or text.startswith("/") or ".." in windows.parts:
        return None
    # accents may be composed in the table and not in the file's name, or the reverse
    forms = [root / text, root / composed(text), root / normalize("NFD", text)]
    return next((path for path in forms if is_file(path)), root.joinpath(*windows.parts))


def _report_unlisted(found: Listing, listed: set[Path], listing: Listing) -> None:
    files = {path for entry in found.entries for path in (entry.image, *entry.masks)} | found.unpaired.keys()
    for path in sorted(files - listed):
        kind = found.unpaired.get(path)
        listing.report(kind if kind in _LONELY else f"not listed in {FILE_NAME}", str(path))


def _with_columns(root: Path, table: Table, found: Listing) -> Listing:
    """Give listed images their group and their part of the split by the rows that name them."""
    listing = Listing(problems=found.problems, notes=found.notes)
    of_image: dict[Path | None, list[Row]] = {}
    of_name: dict[str, list[Row]] = {}
    for row in table.rows:
        image, name = (row.cells.get(column, "").strip() for column in ("image", "name"))
        if row.is_too_long:
            listing.report(_TOO_LONG, f"line {row.line}")
        if image:
            of_image.setdefault(_inside(root, image), []).append(row)
        if name:
            of_name.setdefault(composed(name), []).append(row)
    asked = [column for column in ("group", "split") if column in table.columns]
    for entry in found.entries:
        names = (entry.name, stem_of(entry.image), composed(entry.image.name))
        rows = of_image.get(entry.image) or next((of_name[name] for name in names if name in of_name), [])
        values = {column: sorted({row.cells[column].strip() for row in rows}) for column in asked}
        problems = [problem for column in asked if (problem := _unclear(column, values[column], entry))]
        for kind, what in problems:
            listing.report(kind, what)
        if not problems:
            role = role_of(values["split"]) if "split" in asked else entry.role
            known = replace(entry, group=values.get("group", [entry.group])[0], role=role)
            listing.entries.append(_with_spacing(known, rows, listing))
    return listing


def _with_spacing(entry: Entry, rows: Sequence[Row], listing: Listing) -> Entry:
    """Give an image the pixel spacing that its rows have, if they have one."""
    cells = {row.cells.get("spacing_mm", "").strip() for row in rows} - {""}
    if not cells:
        return entry
    try:
        ((*sides,),) = ([float(side) for side in cell.split()] for cell in cells)
        rows_mm, columns_mm = sides * 2 if len(sides) == 1 else sides
        if not (0 < rows_mm < float("inf") and 0 < columns_mm < float("inf")):
            raise ValueError
    except ValueError:
        what = f"{entry.image}: {', '.join(map(_shown, sorted(cells)))}"
        listing.report(f"no pixel spacing in {FILE_NAME} (expected one or two numbers of millimetres)", what)
        return entry
    return replace(entry, spacing_mm=(rows_mm, columns_mm))


def _unclear(column: str, values: Sequence[str], entry: Entry) -> tuple[str, str] | None:
    """Return what is wrong with what rows say of an image's group, or of its part of the split."""
    none, two = (_NO_GROUP, _TWO_GROUPS) if column == "group" else (_NO_ROLE, _TWO_ROLES)
    if not any(values) or (column == "split" and not all(role_of([value]) for value in values)):
        said = f": {', '.join(map(_shown, values))}" if any(values) else ""
        return none, f"{entry.image}{said}"
    return (two, f"{entry.image}: {', '.join(map(_shown, values))}") if len(values) > 1 else None
