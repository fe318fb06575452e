"""A group of commands that are imported when they are asked for, so that help and completion do not wait for torch."""

from collections.abc import Mapping
from difflib import get_close_matches
from functools import partial
from importlib import import_module
from typing import Any, NamedTuple

import click
from click.shell_completion import CompletionItem

from .completion import rebuilt


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
