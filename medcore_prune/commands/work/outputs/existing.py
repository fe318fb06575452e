"""What is there already where a command is to write: its own work of before, or something else, which stays."""

import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from ...._support.errors import WriteError
from ...._support.files import refuse_folders, sha256_of
from ...._support.journal import Journal
from ...._support.records import content_hash
from ...._support.temporary import remove_unfinished
from ...._support.version import __version__
from ...._support.words import few_of


def refuse_existing(overwrite: bool, *written: Path | None) -> None:
    """Refuse to replace files, before the work whose result goes there, unless that was asked for."""
    refuse_folders(*written)
    there = [str(path) for path in written if path is not None and path.exists()]
    if there and not overwrite:
        raise WriteError(f"already there: {few_of(there)}; choose another name, or give --overwrite")


def run_key(command: str, read: Iterable[str | Path | None], **what: Any) -> str:
    """Hash all that the results of a command depend on: this version, the files that it reads, and options and images.

    Names in `read` that are no file, such as those of built-in models, stand for themselves; `what` are JSON values.
    """
    files = [sha256_of(place) if place and os.path.isfile(place) else str(place) for place in read]
    return content_hash({"command": command, "version": __version__, "files": files, "what": _plain(what)})


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(name): _plain(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    return value if value is None or isinstance(value, bool | int | float) else str(value)


class Results:
    """The files that a command is to write.

    Args:
        journal: What earlier runs wrote there.
        files: All of them; None is passed over.
        overwrite: Whether what is there may be replaced, whoever wrote it.
        anew: Whether what is done already is done again.
        shared: A further file, written last, that other runs may replace.
    """

    def __init__(
        self,
        journal: Journal,
        files: Iterable[Path | None],
        overwrite: bool,
        anew: bool,
        shared: Path | None = None,
    ) -> None:
        self.files = [file for file in files if file is not None]
        self.overwrite, self._journal, self._anew = overwrite, journal, anew
        self._key, self._shared = "", shared
        # before anything is read: what no run of a command wrote, or somebody changed, stays
        refuse_existing(overwrite, *(file for file in self.files if anew or not journal.owns(file)))

    def done(self, **what: Any) -> bool:
        """Whether the same command wrote all of it before, from the same inputs, which is said.

        Else what is there of another command is refused, where it may not be replaced. Arguments are those of
        `run_key`. What dead writers left is removed.
        """
        self._key = run_key(**what)
        for folder in {file.parent for file in self.files}:
            remove_unfinished(folder)
        complete = self._shared is None or self._shared.is_file()
        if not self._anew and complete and self._journal.has(self._key, self.files, self._shared):
            there = f"{few_of([str(file) for file in self.files])} {'are' if self.files[1:] else 'is'} there"
            click.echo(
                f"nothing to do: {there}, written by this command from the same inputs; --overwrite does it again"
            )
            return True
        refuse_existing(self.overwrite, *(file for file in self.files if not self._journal.owns(file, self._key)))
        return False

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Take down what is written within the block; of files that go `together`, this block is the outer one."""
        with self._journal.writing(self._key, [*self.files, *([self._shared] if self._shared else [])]):
            yield
