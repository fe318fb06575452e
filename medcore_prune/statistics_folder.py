"""Calibration statistics in a folder of their own: a file a part, and an index that is written last.

A folder with an index is whole. Without, it is what a save that was stopped left, or no such folder.
"""

from collections.abc import Iterable
from pathlib import Path

from ._support.errors import StatisticsError
from ._support.files import read_json_file, write_json_atomic
from .statistics_file import FilePart, Part, write_part
from .statistics_parts import file_name

INDEX = "index.json"
FOLDER_FORMAT = 1


def save_parts(folder: str | Path, parts: Iterable[Part]) -> None:
    """Write parts into a folder that `load_parts` reads; when it fails, what was written is removed.

    Raises:
        StatisticsError: The folder holds statistics, whole or not.
        WriteError: It cannot be written to, or the disk is full.
    """
    place = Path(folder)
    if (place / INDEX).exists():
        raise StatisticsError(f"{place} already holds statistics: choose another folder or remove them")
    if there := _files(place):
        raise StatisticsError(
            f"{place} holds {len(there)} .safetensors files and no {INDEX}, as a save that was stopped leaves them: "
            "remove them, or choose another folder"
        )
    written: dict[str, str] = {}
    try:
        for number, part in enumerate(parts):
            header = part.header
            words = (f"{number:04d}", header.kind, header.role, file_name(header.dataset))
            path = place / f"{'-'.join(filter(None, words))}.safetensors"
            write_part(path, header, {key: part.tensor(key) for key in part.names})
            written[path.name] = ""
            written[path.name] = FilePart(path).digest
        write_json_atomic(place / INDEX, {"format": FOLDER_FORMAT, "files": written})
    except BaseException:
        for name in written:
            (place / name).unlink(missing_ok=True)
        raise


def load_parts(folder: str | Path) -> list[FilePart]:
    """Open the parts of a folder in the order in which they were saved, without reading the tensors.

    Raises:
        StatisticsError: Nothing there, a file is damaged, missing, foreign or another than the one that was saved.
    """
    place = Path(folder)
    there = _files(place)
    if not (place / INDEX).is_file():
        if not there:
            raise StatisticsError(f"{folder}: no statistics here; expected a folder from Statistics.save")
        raise StatisticsError(
            f"{folder}: there is no {INDEX}, so that this is no folder from Statistics.save, or not the whole of one: "
            "save or copy it again; what lies in a cache is opened by calibrate"
        )
    saved = _index(place / INDEX)
    if missing := sorted(saved.keys() - there):
        raise StatisticsError(f"{folder}: {_named(missing)} missing: copy the whole folder again, or save anew")
    if foreign := sorted(there - saved.keys()):
        raise StatisticsError(f"{folder}: {_named(foreign)} not of these statistics: move the others elsewhere")
    parts = [FilePart(place / name) for name in sorted(saved)]
    if other := [part.path for part in parts if part.digest != saved[part.path.name]]:
        raise StatisticsError(f"{other[0]}: another file than the one that was saved: copy the folder again")
    return parts


def _files(place: Path) -> set[str]:
    """Names of the files with tensors; hidden ones are what a killed writer leaves."""
    return {path.name for path in place.glob("*.safetensors") if not path.name.startswith(".")}


def _index(path: Path) -> dict[str, str]:
    try:
        content = read_json_file(path)
        if content["format"] != FOLDER_FORMAT:
            raise ValueError(f"format {content['format']}, expected {FOLDER_FORMAT}")
        return {str(name): str(digest) for name, digest in content["files"].items()}
    except (OSError, KeyError, TypeError, AttributeError, ValueError) as error:
        reason = (str(error).splitlines() or [""])[0][:120]
        raise StatisticsError(
            f"{path}: no index of statistics ({reason}): copy the folder again, or save anew"
        ) from error


def _named(names: list[str]) -> str:
    more = f" and {len(names) - 1} more are" if len(names) > 1 else " is"
    return f"{names[0]}{more}"
