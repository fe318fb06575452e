"""What runs of a command wrote, so that the same command, given again, knows its own files, however it ended."""

import json
import os
import uuid
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import TypeAlias

from .files import MOST_BYTES, noting, sha256_of

_Attempt: TypeAlias = tuple[str, str]
"""Key of what is made, and one attempt at making it."""


class Journal:
    """A hidden file of lines, one for each file that is about to take its place: of which key, and with what content.

    The key is a hash of all that the file depends on. A line is written before the file that it tells of is renamed, so
    that a kill leaves no file that is there without its line; a line without its file says nothing.

    Args:
        path: It need not exist; a line that was cut off by a kill is passed over.
        anew: Whether earlier lines are dropped at the first new one.
    """

    def __init__(self, path: Path, anew: bool = False) -> None:
        self.path, self._anew = path, anew

    @classmethod
    def beside(cls, result: Path, anew: bool = False) -> "Journal":
        """The journal of a file: `.small.run` beside `small.safetensors`."""
        return cls(result.with_name(f".{result.stem}.run"), anew)

    @cached_property
    def _known(self) -> dict[_Attempt, dict[str, str]]:
        known: dict[_Attempt, dict[str, str]] = {}
        for line in self._lines():
            try:
                key, attempt, name, digest = map(str, json.loads(line))
            except (ValueError, TypeError, RecursionError):
                continue
            known.setdefault((key, attempt), {})[name] = digest
        return known

    def _lines(self) -> list[str]:
        try:
            if not self.path.is_file() or self.path.stat().st_size > MOST_BYTES:
                return []
            return self.path.read_text(encoding="utf-8", errors="replace").splitlines()
        except OSError:
            return []

    def _name(self, file: Path) -> str:
        try:
            return Path(os.path.relpath(file, self.path.parent)).as_posix()
        except ValueError:  # another drive
            return str(file.resolve())

    def _of(self, key: str) -> list[Mapping[str, str]]:
        return [names for (known, _), names in self._known.items() if known == key]

    def has(self, key: str, files: Collection[Path], reached: Path | None = None) -> bool:
        """Whether all the files are there as one attempt at `key` wrote them, one that came to write `reached`."""
        digests = {self._name(file): self._digest(file) for file in files}
        if None in digests.values():
            return False
        last = set() if reached is None else {self._name(reached)}
        return any(digests.items() <= names.items() and last <= names.keys() for names in self._of(key))

    def owns(self, file: Path, key: str | None = None) -> bool:
        """Whether a file is there as some attempt, at `key` or at any, wrote it."""
        name = self._name(file)
        attempts = list(self._known.values()) if key is None else self._of(key)
        told = {names[name] for names in attempts if name in names}
        return bool(told) and self._digest(file) in told

    @staticmethod
    def _digest(file: Path) -> str | None:
        try:
            return sha256_of(file) if file.is_file() else None
        except OSError:
            return None

    @contextmanager
    def writing(self, key: str, files: Collection[Path]) -> Iterator[None]:
        """Take down those of `files` that are written within the block, each before it takes its place."""
        attempt, wanted = uuid.uuid4().hex[:8], {self._name(file) for file in files}

        def note(temporary: Path, target: Path) -> None:
            if (name := self._name(target)) in wanted:
                self._append([key, attempt, name, sha256_of(temporary)])

        with noting(note):
            yield

    def _append(self, line: list[str]) -> None:
        flags = os.O_WRONLY | os.O_CREAT | (os.O_TRUNC if self._anew else os.O_APPEND)
        handle = os.open(self.path, flags, 0o666)
        self._anew = False
        try:
            # the end of the line first: the one before may have been cut off
            os.write(handle, f"\n{json.dumps(line)}\n".encode())
        finally:
            os.close(handle)
