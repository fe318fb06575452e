"""Temporary files beside the files that they become: held as long as their writer lives, removed once it is dead."""

import os
import re
import secrets
import stat
from contextlib import suppress
from pathlib import Path
from types import ModuleType

fcntl: ModuleType | None
try:
    import fcntl
except ImportError:  # Windows, where a file that is held could not be written or renamed
    fcntl = None

_NAME = re.compile(r"\..*\.writing-[A-Za-z0-9_]{8}(\.[^.]*)?")
_MOST_LETTERS = 40
NONE = -1
"""The handle of a file that is not held."""


def make_temporary(target: Path) -> tuple[Path, int]:
    """Make an empty hidden file beside `target`, with its suffix, and hold it; `release` lets go of the handle.

    It is for whoever the umask lets read it; to ask for the umask would change it, for other threads too.
    """
    while True:
        name = target.parent / f".{target.stem[:_MOST_LETTERS]}.writing-{secrets.token_hex(4)}{target.suffix}"
        try:
            handle = os.open(name, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o666)
        except FileExistsError:
            continue
        if fcntl is None:
            os.close(handle)
            return Path(name), NONE
        # some file systems of networks have no locks: there, nothing is held and nothing is removed
        with suppress(OSError):
            fcntl.flock(handle, fcntl.LOCK_EX)
        # another process may have taken it for a dead one's before it was held
        if os.path.exists(name):
            return Path(name), handle
        os.close(handle)


def release(handle: int) -> None:
    """Let go of what `make_temporary` held."""
    if handle != NONE:
        os.close(handle)


def remove_unfinished(folder: Path, deep: bool = False) -> None:
    """Remove the temporary files that dead writers left in a folder, or also in those below it.

    Those of living writers, in this process or another, are held by them and stay.
    """
    if fcntl is None or not folder.is_dir():
        return
    found = folder.rglob(".*") if deep else folder.glob(".*")
    for path in found:
        if _NAME.fullmatch(path.name):
            _remove_dead(path, fcntl)


def _remove_dead(path: Path, locks: ModuleType) -> None:
    # a file of another user, or one that is gone by now, is none of ours
    with suppress(OSError):
        if not stat.S_ISREG(os.lstat(path).st_mode):
            return
        handle = os.open(path, os.O_RDWR | os.O_NOFOLLOW)
        try:
            locks.flock(handle, locks.LOCK_EX | locks.LOCK_NB)
            path.unlink()
        finally:
            os.close(handle)
