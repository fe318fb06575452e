"""Shell completion without waiting: what a command takes is remembered, as importing it takes seconds.

The first key press after an installation imports the command and writes an outline of its options to the user's cache;
later ones read that. click completes from a command that is rebuilt from the outline and is never run.
"""

import hashlib
import json
import sysconfig
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click
from click.shell_completion import CompletionItem

from ._support.errors import MedcorePruneError
from ._support.files import user_cache, write_json_atomic
from ._support.version import __version__

Outline = list[dict[str, Any]]


class Words(click.ParamType):
    """A value of which some words are known.

    Args:
        words: Them.
        several: Whether the value is a list with commas.
        places: What the shell completes beside them: `file`, `dir`, or nothing.
    """

    name = "words"

    def __init__(self, words: Sequence[str], several: bool = False, places: str | None = None) -> None:
        self.words, self.several, self.places = words, several, places

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        """Complete the value, or the last part of a list."""
        before, comma, last = incomplete.rpartition(",") if self.several else ("", "", incomplete)
        found = [CompletionItem(f"{before}{comma}{word}") for word in self.words if word.startswith(last)]
        return [*found, CompletionItem(incomplete, type=self.places)] if self.places else found


def rebuilt(name: str, module: str, load: Callable[[], click.Command]) -> click.Command:
    """Return a command that completes as `load` would, imported only if it is not remembered.

    Args:
        name: Of the command.
        module: Import name of its module.
        load: Imports it.
    """
    place = user_cache() / "completion" / f"{module}-{_state(module)}.json"
    try:
        outline = json.loads(place.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        outline = outline_of(load())
        _remember(outline, place)
    return click.Command(name, params=[_parameter(**each) for each in outline])


def outline_of(command: click.Command) -> Outline:
    """Describe the options and arguments of a command as plain values."""
    return [_described(each) for each in command.params]


def _described(parameter: click.Parameter) -> dict[str, Any]:
    kind = parameter.type
    is_option = isinstance(parameter, click.Option)
    names = ["/".join([*parameter.opts, *parameter.secondary_opts])] if parameter.secondary_opts else parameter.opts
    return {
        "declared": [parameter.name, *names] if is_option else [parameter.name],
        "option": {"is_flag": parameter.is_flag, "multiple": parameter.multiple, "help": parameter.help}
        if isinstance(parameter, click.Option)
        else None,
        "nargs": parameter.nargs,
        "words": [*map(str, kind.choices)] if isinstance(kind, click.Choice) else [*getattr(kind, "words", ())],
        "several": bool(getattr(kind, "several", False)),
        "places": _places(kind),
    }


def _places(kind: click.ParamType) -> str | None:
    if isinstance(kind, click.Path):
        return "file" if kind.file_okay else "dir"
    places: str | None = getattr(kind, "places", None)
    return places


def _parameter(
    declared: list[str],
    option: dict[str, Any] | None,
    nargs: int,
    words: list[str],
    several: bool,
    places: str | None,
) -> click.Parameter:
    kind = Words(words, several, places)
    if option is None:
        return click.Argument(declared, nargs=nargs, type=kind, required=False)
    if option["is_flag"]:
        return click.Option(declared, **option)
    return click.Option(declared, type=kind, **option)


def _state(module: str) -> str:
    """What an outline is good for: this version, its files as they are, and the plug-ins that are installed."""
    package = Path(__file__).parent
    folders = [package / "commands", package.parent / "benchmarks", package / "benchmarks"]
    times = [path.stat().st_mtime_ns for folder in folders if folder.is_dir() for path in folder.glob("*.py")]
    installed = Path(sysconfig.get_path("purelib")).stat().st_mtime_ns
    return hashlib.sha256(f"{__version__} {module} {times} {installed}".encode()).hexdigest()[:16]


def _remember(outline: Outline, place: Path) -> None:
    try:
        for old in place.parent.glob(f"{place.stem.rpartition('-')[0]}-*.json"):
            old.unlink(missing_ok=True)
        write_json_atomic(place, outline)
    except (OSError, MedcorePruneError):
        # nowhere to write: the next key press takes as long
        return
