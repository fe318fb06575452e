"""What both command lines do with a user's mistake, an interrupt and a closed pipe; exit codes."""

import hashlib
import json
import sys
import sysconfig
import warnings
from collections.abc import Callable, Mapping, Sequence
from difflib import get_close_matches
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

import click
from click.shell_completion import CompletionItem

from .._support.errors import MedcorePruneError, MedcorePruneWarning
from .._support.files import user_cache, write_json_atomic
from .._support.progress import remembered
from .._support.version import __version__

REFUSED, INTERRUPTED = 1, 130
"""Exit codes beside click's 0 for success and 2 for wrong usage."""


def _show_warning(message: Warning | str, category: type[Warning], *where: Any, **more: Any) -> None:
    """Print what this package warns of as one line; what others warn of is printed as Python does."""
    if issubclass(category, MedcorePruneWarning):
        click.echo(f"warning: {message}", err=True)
    else:
        _python_shows(message, category, *where, **more)


def _is_out_of_memory(error: Exception) -> bool:
    """Whether there was no memory; torch says so in an error of its own on a GPU, and in words alone elsewhere."""
    # by its name: what needs no torch must not wait for it
    of_torch = type(error).__name__ == "OutOfMemoryError" or "can't allocate memory" in str(error)
    return isinstance(error, MemoryError) or of_torch


_python_shows = warnings.showwarning


def run(command: click.Command) -> None:
    """Run a command and end with its exit code; what was to be expected is a message, never a traceback.

    0 is success, 1 what this package or the file system refuses, 2 wrong usage, 130 an interrupt. Any other error is a
    fault of the program and keeps its traceback. A reader that closes the pipe (`| head`) ends the command quietly.
    """
    warnings.showwarning = _show_warning
    try:
        with remembered():
            # click returns the code of an early exit, such as that of --help; commands themselves return nothing
            sys.exit(command(standalone_mode=False) or 0)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except click.Abort:
        click.echo("stopped: no file is left half-written; what can go on does when the command is repeated", err=True)
        sys.exit(INTERRUPTED)
    except MedcorePruneError as error:
        click.echo(f"error: {error}", err=True)
        sys.exit(REFUSED)
    except (MemoryError, RuntimeError) as error:
        if not _is_out_of_memory(error):
            raise
        click.echo("error: out of memory: use smaller images, a smaller batch or another device", err=True)
        sys.exit(REFUSED)
    except OSError as error:
        # a folder that cannot be written, a disk that is full
        click.echo(f"error: {error.filename or 'a file'}: {error.strerror or error}", err=True)
        sys.exit(REFUSED)


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
    package = Path(__file__).parent.parent
    folders = [package / "commands", package.parent / "benchmarks", package / "benchmarks"]
    times = [path.stat().st_mtime_ns for folder in folders if folder.is_dir() for path in folder.rglob("*.py")]
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


def _imported(module: str) -> click.Command:
    command: click.Command = import_module(module).command
    return command


class Listed(NamedTuple):
    """What is known of a command before it is imported.

    Attributes:
        module: Import name of the module that holds it, as a click command called `command`.
        says: The first sentence of its help, without the full stop.
    """

    module: str
    says: str


class LazyGroup(click.Group):
    """A click group over modules; its help, and that of its commands, is asked for by `--help` or `-h`.

    Args:
        listed: Names of the commands to what is known of them, in the order in which help shows them.
    """

    def __init__(self, *args: Any, listed: Mapping[str, Listed], **kwargs: Any) -> None:
        # the first is the one that errors name
        super().__init__(*args, context_settings={"help_option_names": ["--help", "-h"]}, **kwargs)
        self.listed = dict(listed)

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names in the order of the list."""
        return [*self.listed, *super().list_commands(ctx)]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import the command, if there is one of that name; for completion it may be a remembered one."""
        if cmd_name not in self.listed:
            return super().get_command(ctx, cmd_name)
        module = self.listed[cmd_name].module
        return rebuilt(cmd_name, module, partial(_imported, module)) if ctx.resilient_parsing else _imported(module)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find a command, and name those that are spelt nearly the same where there is none.

        Raises:
            click.UsageError: There is no such command.
        """
        known = self.list_commands(ctx)
        # click itself looks among commands that are imported already
        near = get_close_matches(args[0], known) if args[0] not in known else []
        if near and not ctx.resilient_parsing:
            ctx.fail(f"No such command {args[0]!r}. Did you mean {' or '.join(near)}?")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the list of commands, no sentence cut."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, f"{known.says}.") for name, known in self.listed.items()])

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Complete the name of a command, or an option of the group."""
        names = [
            CompletionItem(name, help=known.says) for name, known in self.listed.items() if name.startswith(incomplete)
        ]
        return [*names, *click.Command.shell_complete(self, ctx, incomplete)]
