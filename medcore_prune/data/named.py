"""Data sets named on a command line: `--data NAME=DIR`, again and again."""

from collections.abc import Iterable, Mapping
from pathlib import Path

import click

from .._support.errors import DataError, MedcorePruneError
from .folder import folder
from .types import SampleSet

_EXPECTED = {
    "--data": "NAME=DIR, for example kvasir=images/Kvasir-SEG",
    "--boxes": "NAME=CSV, for example kvasir=boxes.csv",
    "--results": "NAME=DIR, for example phantoms=results",
}


def parse_named(values: Iterable[str], option: str = "--data") -> dict[str, Path]:
    """Split `NAME=PLACE` words.

    Args:
        values: Words such as `kvasir=images/Kvasir-SEG`.
        option: Where they come from, for messages.

    Returns:
        Name to folder or file, in order.

    Raises:
        DataError: A word has no name or no place, or a name comes twice.
    """
    named: dict[str, Path] = {}
    for value in values:
        name, separator, place = value.partition("=")
        if not (name and separator and place):
            raise DataError(f"{option} {value!r}: expected {_EXPECTED[option]}")
        if name in named:
            raise DataError(f"{option} {value!r}: the name {name!r} is given twice; every data set needs its own")
        named[name] = Path(place)
    return named


def named_folders(
    named: Mapping[str, Path], layout: str = "auto", boxes: Mapping[str, Path] | None = None
) -> dict[str, SampleSet]:
    """Open folders and check all of them before any work starts; what was noticed goes to standard error.

    Args:
        named: Data set name to folder, from `parse_named`.
        layout: See `data.folder`.
        boxes: Data set name to a CSV file of box prompts, for those that have one.

    Returns:
        Name to samples.

    Raises:
        DataError: Every problem of every folder at once.
    """
    sets: dict[str, SampleSet] = {}
    problems = [f"--boxes {name}=...: there is no --data {name}=..." for name in sorted({*(boxes or {})} - {*named})]
    for name, place in named.items():
        try:
            found = folder(place, layout=layout, name=name, boxes=(boxes or {}).get(name))
            sets[name] = found
            for note in found.notes:
                click.echo(f"{name}: {note}", err=True)
        except MedcorePruneError as error:
            problems.append(str(error))
    if problems:
        raise DataError("\n".join(problems))
    return sets
