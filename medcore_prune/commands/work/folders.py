"""`--data` words read and opened: `NAME=DIR`, `NAME=DIR:LAYOUT` and `NAME.boxes=CSV`."""

import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import click

from ..._support.errors import DataError, DataWarning, MedcorePruneError, UnreadableError, WordsError
from ...data.folders.check import BadFilesError
from ...data.folders.folder import folder
from ...data.folders.layouts import LAYOUTS
from ...data.folders.reading import AS_IT_IS, Reading
from ...data.samples import SampleSet

_BOXES = ".boxes"
_EXPECTED = {
    "--data": "NAME=DIR, for example kvasir=images/Kvasir-SEG",
    "--results": "NAME=DIR, for example phantoms=results",
}


@dataclass(frozen=True)
class Named:
    """One data set as it is named on the command line.

    Attributes:
        place: Its folder.
        layout: How it is laid out; `auto` recognises it.
        boxes: A CSV file of boxes in place of those of the masks.
    """

    place: Path
    layout: str = "auto"
    boxes: Path | None = None


def parse_named(values: Iterable[str], option: str = "--data") -> dict[str, Path]:
    """Split words of an option, such as `kvasir=images/Kvasir-SEG`, into name and place.

    Raises:
        WordsError: A word has no name or no place, or a name comes twice.
    """
    named: dict[str, Path] = {}
    for value in values:
        name, separator, place = value.partition("=")
        if not (name and separator and place):
            raise WordsError(f"{option} {value!r}: expected {_EXPECTED[option]}")
        if name in named:
            raise WordsError(f"{option} {value!r}: the name {name!r} is given twice; every data set needs its own")
        named[name] = Path(place)
    return named


def parse_data(words: Iterable[str]) -> dict[str, Named]:
    """Read `--data` words.

    A CSV of boxes beside a folder, `Kvasir-SEG.boxes.csv` beside `Kvasir-SEG`, belongs to it.

    Returns:
        Data set name to what is named, in order.

    Raises:
        DataError: A word has no name or no place, a name comes twice, or boxes have no folder.
    """
    places = parse_named(words)
    given = {name: place for name, place in places.items() if name.endswith(_BOXES)}
    sets = {name: _named(place) for name, place in places.items() if name not in given}
    for name, boxes in given.items():
        of = name.removesuffix(_BOXES)
        if of not in sets:
            raise WordsError(f"--data {name}=...: there is no --data {of}=DIR")
        sets[of] = replace(sets[of], boxes=boxes)
    return sets


def _named(place: Path) -> Named:
    before, colon, last = str(place).rpartition(":")
    # the colon may be a drive's, or one in a folder's name
    if colon and not place.is_dir() and (last in ("auto", *LAYOUTS) or Path(before).is_dir()):
        return Named(Path(before), last, _beside(Path(before)))
    return Named(place, boxes=_beside(place))


def _beside(place: Path) -> Path | None:
    boxes = place.parent / f"{place.name}{_BOXES}.csv"
    return boxes if place.name and boxes.is_file() else None


def open_data(sets: Mapping[str, Named], reading: Reading = AS_IT_IS) -> dict[str, SampleSet]:
    """Open folders and check all of them before any work starts; what was noticed goes to standard error.

    Raises:
        DataError: Every problem of every folder at once.
    """
    opened: dict[str, SampleSet] = {}
    problems: list[MedcorePruneError] = []
    for name, each in sets.items():
        try:
            with warnings.catch_warnings():
                # said below, among its notes
                warnings.simplefilter("ignore", DataWarning)
                found = folder(each.place, layout=each.layout, name=name, boxes=each.boxes, **reading._asdict())
        except BadFilesError as error:
            problems.append(DataError(f"{error.plain}\n  mend them, or give --skip-bad to leave them out"))
            continue
        except MedcorePruneError as error:
            problems.append(error)
            continue
        opened[name] = found
        for note in found.notes:
            _say_once(f"{name}: {note}")
        if each.boxes is not None and each.boxes == _beside(each.place):
            _say_once(f"{name}: boxes from {each.boxes}, which lies beside it")
    if problems:
        wrong_words = all(isinstance(problem, UnreadableError) for problem in problems)
        raise (WordsError if wrong_words else DataError)("\n".join(map(str, problems)))
    return opened


_SAID = "medcore_prune.noticed"


def _say_once(text: str) -> None:
    """Say on standard error what was noticed of a folder; a command of several steps opens it more than once."""
    context = click.get_current_context(silent=True)
    said: set[str] = set() if context is None else context.meta.setdefault(_SAID, set())
    if text not in said:
        click.echo(text, err=True)
    said.add(text)
