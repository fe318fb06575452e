"""`medcore-prune`: one's own checkpoint and data, one command a step."""

from importlib import import_module

import click

from .command_line import run

COMMANDS = {
    "adapt": "adapt",
    "evaluate": "evaluate",
    "export": "export",
    "inspect": "inspect",
    "phantoms": "phantoms",
    "predict": "predict",
    "prune": "prune",
    "recover": "recover",
}
"""Commands to the modules of `commands` that hold them, each as a click command called `command`."""


class _Steps(click.Group):
    """Imports a command when it is asked for, so that none waits for what another needs."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = import_module(f".commands.{COMMANDS[cmd_name]}", __package__).command
        return command


@click.group(cls=_Steps)
@click.version_option(package_name="medcore-prune")
def cli() -> None:
    """Make a SAM or MedSAM smaller: adapt it to your images, prune it, recover it, and use what is left.

    Every command runs without options on a small built-in model and drawn images, in seconds.
    """


def main() -> None:
    """Run `medcore-prune`."""
    run(cli)


if __name__ == "__main__":
    main()
