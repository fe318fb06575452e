"""Files that are written whole or not at all."""

import hashlib
import json
import os
import stat
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from safetensors import SafetensorError

from .errors import ResultsError, WriteError
from .temporary import make_temporary, release, remove_unfinished

_TORCH_CANNOT_WRITE = "inline_container"
"""Where torch's own writer of archives says that it failed; it has no error of its own for it."""
_LONGEST_NAME = 255  # of Windows' file systems
_PENDING: ContextVar[list[tuple[Path, Path, int]] | None] = ContextVar("_PENDING", default=None)
"""Finished temporary files, their targets and handles, within a block of `together`."""
Note = Callable[[Path, Path], None]
_NOTE: ContextVar[Note | None] = ContextVar("_NOTE", default=None)
"""What is told of a temporary file and its target before the one becomes the other, within a block of `noting`."""
_LOOKED_THROUGH: set[str] = set()
"""Folders from which this process has removed what dead writers left."""


@contextmanager
def atomic_write(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a temporary path beside `path`, with its suffix; rename it to `path` when the block ends well.

    Missing parent folders are made. Where the block raises, the disk is full, or the folder cannot be written to,
    `path` is as it was. Temporary files that a killed writer left there are removed.
    """
    target = Path(path)
    with _saying(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        _look_through(target.parent)
        temporary, handle = make_temporary(target)
        mode = stat.S_IMODE(temporary.stat().st_mode)
        pending = _PENDING.get()
        waits = False
        try:
            yield temporary
            # a writer that replaced the file made it by its own rules
            temporary.chmod(mode)
            if pending is None:
                _rename(temporary, target)
            else:
                pending.append((temporary, target, handle))
                waits = True
        finally:
            if not waits:
                temporary.unlink(missing_ok=True)
                release(handle)


def _look_through(folder: Path) -> None:
    if (place := os.path.realpath(folder)) not in _LOOKED_THROUGH:
        _LOOKED_THROUGH.add(place)
        remove_unfinished(folder)


def _rename(temporary: Path, target: Path) -> None:
    if (note := _NOTE.get()) is not None:
        note(temporary, target)
    temporary.replace(target)


@contextmanager
def noting(note: Note) -> Iterator[None]:
    """Tell `note` of each file that `atomic_write` makes within the block, right before it takes its place."""
    token = _NOTE.set(note)
    try:
        yield
    finally:
        _NOTE.reset(token)


@contextmanager
def together() -> Iterator[None]:
    """Keep what `atomic_write` makes within the block aside; rename it all, in that order, when the block ends well.

    So files that belong together are all on the disk before the first is replaced, and where the block raises none is.
    A model goes last: whenever a kill comes, a new one has all that lies beside it.
    """
    pending: list[tuple[Path, Path, int]] = []
    token = _PENDING.set(pending)
    try:
        yield
        for temporary, target, _ in pending:
            with _saying(target):
                _rename(temporary, target)
    finally:
        _PENDING.reset(token)
        for temporary, _, handle in pending:
            temporary.unlink(missing_ok=True)
            release(handle)


def require_writable(*paths: str | os.PathLike[str] | None) -> None:
    """Refuse places that may not be written to, before the work whose result goes there; nothing is made.

    The nearest folder that exists is no folder, or may not be written to, or a name is too long.
    """
    for path in paths:
        if path is None:
            continue
        target = Path(path)
        there = next(place for place in (target, *target.parents, Path()) if os.path.exists(place))
        # a file that is there is replaced within its folder
        folder = there.parent if there == target and there.is_file() else there
        if not folder.is_dir():
            raise WriteError(f"{path} cannot be written: {folder} is a file, expected a folder")
        if not os.access(folder, os.W_OK | os.X_OK):
            raise WriteError(f"{path} cannot be written: the folder {folder} may not be written to")
        most = os.pathconf(folder, "PC_NAME_MAX") if hasattr(os, "pathconf") else _LONGEST_NAME
        if len(os.fsencode(target.name)) > most:
            raise WriteError(f"{path} cannot be written: expected a name of at most {most} bytes")


def refuse_overwriting(read: Iterable[str | os.PathLike[str] | None], *written: Path | None) -> None:
    """Refuse to write over a file that is read, under whatever name, or to write one twice.

    Names of what is no file, and None, are passed over.
    """
    places = [target.resolve() for target in written if target]
    if twice := [place for number, place in enumerate(places) if place in places[:number]]:
        raise WriteError(f"{twice[0]} is asked for twice, as two results of one command: choose another name")
    for target in written:
        for source in read:
            if target and source and os.path.exists(target) and os.path.exists(source) and target.samefile(source):
                raise WriteError(f"{target} is the file {source} that is read: choose another name")


def refuse_folders(*written: Path | None) -> None:
    """Refuse folders in the place of files that are to be made, before the work whose result goes there."""
    for path in written:
        if path is not None and path.is_dir():
            raise WriteError(f"{path} is a folder, expected the name of a file: choose another name")


@contextmanager
def _saying(target: Path) -> Iterator[None]:
    """Turn what the writers of files raise into one error that names the file."""
    try:
        yield
    except WriteError:
        raise
    except (OSError, SafetensorError, RuntimeError) as error:
        if isinstance(error, RuntimeError) and _TORCH_CANNOT_WRITE not in str(error):
            raise
        reason = getattr(error, "strerror", None) or next(iter(str(error).splitlines()), type(error).__name__)
        raise WriteError(f"{target} cannot be written: {reason}") from error


def write_text_atomic(path: str | os.PathLike[str], text: str) -> None:
    """Write `text` as UTF-8, whole or not at all."""
    with atomic_write(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json_atomic(path: str | os.PathLike[str], value: Any) -> None:
    """Write `value` as indented JSON with sorted keys, whole or not at all; NaN and infinity are refused."""
    write_text_atomic(path, json.dumps(value, indent=1, sort_keys=True, allow_nan=False) + "\n")


def sha256_of(path: str | os.PathLike[str]) -> str:
    """Return the SHA-256 of a file's bytes as 64 hex digits."""
    with open(path, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


@contextmanager
def exclusive(result: Path) -> Iterator[None]:
    """Hold a folder of results, or a file, while the block runs; the lock goes with the process, however that ends.

    The result need not exist: the lock is a hidden file beside it, which goes with the block.
    """
    place = result.resolve()
    place.parent.mkdir(parents=True, exist_ok=True)
    file = place.parent / f".{place.name}.lock"
    lock = FileLock(file)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise ResultsError(f"another run is writing to {result}: wait for it, or write elsewhere") from None
    try:
        yield
    finally:
        # while it is held, so that the file is not that of another run; Windows keeps files that are open
        with suppress(OSError):
            file.unlink()
        lock.release()


MOST_BYTES = 1 << 28
"""No file of this package comes near: a split manifest of a million images is half of it."""


def not_a_file(path: str | os.PathLike[str]) -> str:
    """Say what is in the place of a file, which reading would wait for or never end with; nothing of a file."""
    try:
        mode = os.stat(path).st_mode
    except (OSError, ValueError):
        return "no such file"
    if stat.S_ISREG(mode):
        return ""
    return "a folder" if stat.S_ISDIR(mode) else "a pipe or a device, and no file"


def too_large(path: str | os.PathLike[str]) -> str:
    """Say that a text file is larger than any of its kind is, before it is read; nothing where it is not."""
    size = os.stat(path).st_size
    return f"{size >> 20} MiB, expected at most {MOST_BYTES >> 20}" if size > MOST_BYTES else ""


def parse_json(text: str) -> Any:
    """Parse JSON text; whatever is wrong with it is a ValueError."""
    try:
        return json.loads(text)
    except RecursionError as error:
        raise ValueError("nested too deep") from error


def read_json_file(path: str | os.PathLike[str]) -> Any:
    """Read a JSON file; one that is too large, no text, no JSON, or nested too deep is a ValueError."""
    if os.path.exists(path) and (problem := not_a_file(path) or too_large(path)):
        raise ValueError(problem)
    return parse_json(Path(path).read_text(encoding="utf-8"))


def user_cache() -> Path:
    """Return `$MEDCORE_PRUNE_CACHE`, else `medcore_prune` in the user's cache."""
    if place := os.environ.get("MEDCORE_PRUNE_CACHE"):
        return Path(place)
    return Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "medcore_prune"
