"""Data sets named on a command line: `--data NAME=DIR`, again and again."""

from collections.abc import Iterable
from pathlib import Path

from ..errors import DataError, MedcorePruneError
from .folder import folder
from .types import SampleSet


def parse_named(values: Iterable[str]) -> dict[str, Path]:
    """Split `NAME=DIR` words.

    Args:
        values: Words such as `kvasir=images/Kvasir-SEG`.

    Returns:
        Name to folder, in order.

    Raises:
        DataError: A word has no name or no folder, or a name comes twice.
    """
    named: dict[str, Path] = {}
    for value in values:
        name, separator, place = value.partition("=")
        if not (name and separator and place):
            raise DataError(f"--data {value!r}: expected NAME=DIR, for example kvasir=images/Kvasir-SEG")
        if name in named:
            raise DataError(f"--data {value!r}: the name {name!r} is given twice; every data set needs its own")
        named[name] = Path(place)
    return named


def named_folders(values: Iterable[str], layout: str = "auto") -> dict[str, SampleSet]:
    """Open the folders of `NAME=DIR` words and check all of them before any work starts.

    Args:
        values: Words such as `kvasir=images/Kvasir-SEG`.
        layout: See `data.folder`.

    Returns:
        Name to samples.

    Raises:
        DataError: Every problem of every folder at once.
    """
    sets: dict[str, SampleSet] = {}
    problems = []
    for name, place in parse_named(values).items():
        try:
            sets[name] = folder(place, layout=layout, name=name)
        except MedcorePruneError as error:
            problems.append(str(error))
    if problems:
        raise DataError("\n".join(problems))
    return sets
