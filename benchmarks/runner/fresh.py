"""Starting over: what runs wrote into a folder of results is removed, file by file; what others put there stays."""

import re
import zipfile
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from ..._support.files import read_json_file, sha256_of
from ..._support.temporary import remove_unfinished

_KEY = re.compile(r"[0-9a-f]{24}")
_WITH_PICTURES = ("gallery", "hurt")
_PICTURE = re.compile(r"gallery/[^/\\]+-[0-9]+\.png")
_SUMS = re.compile(r"(adapted|reference|reference-weights)-[0-9a-f]{24}")


def remove_results(root: Path, folders: Iterable[str], results_format: str) -> None:
    """Remove the files of a run in some folders of its own, and the folders that are empty then.

    A file is known by what stands in it, or by the hash that is its name; one that is not known stays.
    """
    places = [root / name for name in folders]
    for place in places:
        remove_unfinished(place, deep=True)
    written = [path for place in places for path in _written(place, root, results_format)]
    for path in written:
        path.unlink(missing_ok=True)
    for place in places:
        if place.is_dir() and not place.is_symlink():
            inner = sorted((path for path in place.rglob("*") if path.is_dir() and not path.is_symlink()), reverse=True)
            for empty in (*inner, place):
                with suppress(OSError):
                    empty.rmdir()


def _written(place: Path, root: Path, results_format: str) -> Iterator[Path]:
    records = (root / "analysis" / f"{name}.json" for name in _WITH_PICTURES)
    pictures = set[Path]().union(*(_pictures(record, root, results_format) for record in records))
    for path in place.rglob("*"):
        if path.is_symlink() or not path.is_file():
            continue
        if path in pictures or _is_written(path, results_format):
            yield path


def _is_written(path: Path, results_format: str) -> bool:
    if path.suffix == ".json":
        return _record(path).get("format") == results_format or (
            path.parent.name == "plans" and bool(_KEY.fullmatch(path.stem))
        )
    if path.suffix == ".csv":
        told = _record(path.with_suffix(".json"))
        return told.get("format") == results_format and told.get("sha256") == sha256_of(path)
    if path.suffix == ".npz":
        with suppress(OSError, zipfile.BadZipFile), zipfile.ZipFile(path) as archive:
            return "digest.npy" in archive.namelist()
        return False
    return bool(_SUMS.fullmatch(path.parent.name)) and (path.suffix == ".safetensors" or path.name == ".lock")


def _record(path: Path) -> dict[str, Any]:
    try:
        found = read_json_file(path)
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _pictures(record: Path, root: Path, results_format: str) -> set[Path]:
    found = _record(record)
    if found.get("format") != results_format or not isinstance(found.get("pictures"), list):
        return set()
    names = [str(each.get("file")) for each in found["pictures"] if isinstance(each, dict)]
    return {root / name for name in names if _PICTURE.fullmatch(name)}
