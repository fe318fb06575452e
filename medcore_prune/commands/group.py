"""What both command lines share: commands that are imported when called, their help, exit codes, and what is said."""

import gc
import sys
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from difflib import get_close_matches
from importlib import import_module
from typing import Any, NamedTuple

import click
from click.shell_completion import CompletionItem

from .._support.errors import MedcorePruneError, MedcorePruneWarning, UnreadableError, is_out_of_memory
from .._support.machines.launched import processes
from .._support.progress import remembered

REFUSED, WRONG_USAGE, INTERRUPTED = 1, 2, 130
"""Exit codes beside 0 for success; that of wrong usage is click's."""


def _show_warning(message: Warning | str, category: type[Warning], *where: Any, **more: Any) -> None:
    """Print what this package warns of as one line; what others warn of is printed as Python does."""
    if issubclass(category, MedcorePruneWarning):
        click.echo(f"warning: {message}", err=True)
    # which Pillow says of an image that is refused for its size in a line of its own
    elif category.__name__ != "DecompressionBombWarning":
        _python_shows(message, category, *where, **more)


_python_shows = warnings.showwarning


def run(command: click.Command) -> None:
    """Run a command and end with its exit code; what was to be expected is a message, never a traceback.

    0 is success, 1 what this package or the file system refuses, 2 wrong usage, 130 an interrupt. Any other error is a
    fault of the program and keeps its traceback. A reader that closes the pipe (`| head`) ends the command quietly.
    Of several processes, the first that has to end says why.
    """
    warnings.showwarning = _show_warning
    try:
        with remembered():
            # click returns the code of an early exit, such as that of --help; commands themselves return nothing
            sys.exit(command(standalone_mode=False) or 0)
    except click.ClickException as error:
        if _speaks():
            error.show()
        sys.exit(error.exit_code)
    except click.Abort:
        if _speaks():
            click.echo(_STOPPED, err=True)
        sys.exit(INTERRUPTED)
    except Exception as error:
        said = _said(error)
        if _speaks():
            click.echo(f"error: {said}", err=True)
        sys.exit(WRONG_USAGE if isinstance(error, UnreadableError) else REFUSED)


@contextmanager
def loading() -> Iterator[None]:
    """Import what a command works with, in three quarters of the time.

    Hundreds of thousands of objects are made that stay as long as the process: Python looks for no garbage meanwhile,
    nor among them later.
    """
    enabled, known = gc.isenabled(), len(sys.modules)
    gc.disable()
    try:
        yield
    finally:
        if len(sys.modules) > known:
            gc.freeze()
        if enabled:
            gc.enable()


_STOPPED = "stopped: no file is left half-written; what can go on does when the command is repeated"


def _speaks() -> bool:
    """Whether no other process has said before why all of them end."""
    if processes() == 1:
        return True
    from .._support.machines.ranks import speaks

    return speaks()


def _said(error: Exception) -> str:
    """What was to be expected, in words; a fault of the program is raised."""
    if is_out_of_memory(error):
        return "out of memory: use smaller images, a smaller batch or another device"
    if isinstance(error, MedcorePruneError):
        return str(error)
    if isinstance(error, OSError):
        # a folder that cannot be written, a disk that is full
        return f"{error.filename or 'a file'}: {error.strerror or error}"
    raise error


class More(click.Option):
    """An option that few people need: help shows it under its second heading."""


GONE = {
    "--adapted": "the model comes first, without an option: prune MODEL",
    "--pruned": "the model comes first, without an option: recover MODEL, predict MODEL IMAGE",
    "--reference": "the model to start from comes first, without an option: adapt MODEL",
    "--model": "the file of a model tells which SAM it holds: leave --model out",
    "--image-size": "the file of a model tells its input side: leave it out; adapt and prune take another --image-size",
    "--layout": "the layout of a folder is a part of --data: --data NAME=DIR:LAYOUT",
    "--boxes": "boxes are a part of --data: --data NAME=DIR --data NAME.boxes=CSV",
    "--batch-size": "how many images are computed at a time is chosen by the memory that is there: leave it out",
    "--attention": "how attention is computed is chosen by the memory that is there: leave it out",
    "--checkpointing": "whether parts are computed twice is chosen by the memory that is there: leave it out",
    "--verify": "the pruned model is always compared on a few images: leave it out",
}
"""Options of earlier versions, and what to give instead; said by commands that do not have them any more."""


class Command(click.Command):
    """A command whose help has two lists of options, with their defaults, and that knows what became of old ones."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.context_settings["show_default"] = True

    @property
    def gone(self) -> Mapping[str, str]:
        """Options of earlier versions, and what to give instead."""
        return GONE

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the options that most people need, then the others."""
        lists: dict[str, list[tuple[str, str]]] = {"Options": [], "More options": []}
        for parameter in self.get_params(ctx):
            if isinstance(parameter, click.Option) and (record := parameter.get_help_record(ctx)) is not None:
                lists["More options" if isinstance(parameter, More) else "Options"].append(record)
        for heading, records in lists.items():
            if records:
                with formatter.section(heading):
                    formatter.write_dl(records)

    def invoke(self, ctx: click.Context) -> Any:
        """Do the work, unless several processes are at it that do not share it."""
        if processes() > 1 and not isinstance(self, Shared):
            raise click.UsageError(f"{ctx.info_name} works in one process: give it without torchrun", ctx)
        return super().invoke(ctx)

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Read what was given; for an option of an earlier version, say what to give instead."""
        try:
            return super().parse_args(ctx, args)
        except click.NoSuchOption as error:
            if error.option_name not in self.gone:
                raise
            raise click.UsageError(f"{error.option_name} is gone: {self.gone[error.option_name]}", ctx) from None


class Shared(Command):
    """A command on which processes of `torchrun` work together; any other would do its work several times."""


class Listed(NamedTuple):
    """What is known of a command before it is imported.

    `module` holds it, as a click command called `command`; `says` is the first sentence of its help, without the full
    stop.
    """

    module: str
    says: str


class LazyGroup(click.Group):
    """A click group over modules, listed in the order in which help shows them; `-h` asks for help too."""

    def __init__(self, *args: Any, listed: Mapping[str, Listed], **kwargs: Any) -> None:
        # the first is the one that errors name
        super().__init__(*args, context_settings={"help_option_names": ["--help", "-h"]}, **kwargs)
        self.listed = dict(listed)

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names in the order of the list."""
        return [*self.listed, *super().list_commands(ctx)]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import the command, if there is one of that name."""
        if cmd_name not in self.listed:
            return super().get_command(ctx, cmd_name)
        command: click.Command = import_module(self.listed[cmd_name].module).command
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find a command, and name those that are spelt nearly the same where there is none."""
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
