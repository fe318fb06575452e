"""Memos: what was computed once, kept in files that are found again by all that it depends on.

A thing is computed again where it is not there, where it depends on something else, or where its reader says that it is
of no use; damage that a person should know of is raised by the reader. A thing is written whole or not at all, so that
a kill leaves none or all of it, and where a computation takes long a second process waits for the first.
"""

import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from filelock import FileLock, Timeout

from .errors import ResultsError
from .files import read_json_file, write_json_atomic

T = TypeVar("T")


@dataclass(frozen=True)
class Memo(Generic[T]):
    """One thing in a file of its own, whose name or content tells what it depends on.

    Attributes:
        path: The file that says, alone, that the thing is there; of several files it is written last.
        read: Reads the thing; None where the file is of something else, or is as good as none.
        write: Writes it, whole or not at all.
        waiting_for: What another process is at, where two must not compute it at once; empty where they may.
    """

    path: Path
    read: Callable[[Path], T | None]
    write: Callable[[Path, T], None]
    waiting_for: str = ""

    def get(self) -> T | None:
        """Return the thing, or None where there is none."""
        return self.read(self.path) if self.path.is_file() else None

    def put(self, thing: T) -> T:
        """Write the thing and return it."""
        self.write(self.path, thing)
        return thing

    def get_or_make(self, make: Callable[[], T]) -> T:
        """Return the thing, computed and written where there is none."""
        with self._alone():
            found = self.get()
            return self.put(make()) if found is None else found

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Hold the folder of the thing; the lock goes with the process, however that ends."""
        if not self.waiting_for:
            yield
            return
        place = self.path.parent
        place.mkdir(parents=True, exist_ok=True)
        lock = FileLock(place / ".lock")
        try:
            lock.acquire(timeout=0)
        except Timeout:
            print(f"another process is at the same {self.waiting_for} ({place}): waiting for it", file=sys.stderr)
            lock.acquire()
        try:
            yield
        finally:
            lock.release()


class Ledger:
    """Many small JSON values in one file, by key; those that belong to other inputs are dropped.

    Args:
        path: The file, which need not exist.
        inputs: JSON values of all that every entry depends on, besides its key.
        name: Under which the file holds the entries.

    Raises:
        ResultsError: The file is damaged; the message says to delete it.
    """

    def __init__(self, path: Path, inputs: Mapping[str, Any], name: str) -> None:
        self._path, self._inputs, self._name = path, dict(inputs), name
        stored = self._read() if path.is_file() else {}
        self._known: dict[str, Any] = stored.get(name, {}) if stored.get("inputs") == self._inputs else {}

    def _read(self) -> dict[str, Any]:
        try:
            stored = read_json_file(self._path)
            if not isinstance(stored, dict) or not isinstance(stored.get(self._name, {}), dict):
                raise ValueError("no JSON object")
        except (OSError, ValueError) as error:
            reason = str(error)[:80]
            raise ResultsError(f"{self._path} is damaged ({reason}): delete this file and run again") from error
        return stored

    def __contains__(self, key: str) -> bool:
        return key in self._known

    def get_or_make(self, key: str, make: Callable[[], Any]) -> Any:
        """Return an entry, computed and written where there is none."""
        if key not in self._known:
            self._known[key] = make()
            write_json_atomic(self._path, {"inputs": self._inputs, self._name: self._known})
        return self._known[key]
