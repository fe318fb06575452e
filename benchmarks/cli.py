"""`medcore-bench`: one command an experiment."""

from importlib import import_module

import click

from ..command_line import run

COMMANDS = {
    "ablation": "ablation",
    "automatic": "automatic_split",
    "baselines": "baselines",
    "claims": "claims",
    "correction-study": "correction_study",
    "landscape": "landscape",
    "leverage": "leverage",
    "list": "listing",
    "main": "main",
    "plan": "plan",
    "recovery-study": "recovery_study",
    "report": "report",
    "transfer": "transfer",
    "tune": "tune",
}
"""Commands to the modules of this package that hold them, each as a click command called `command`."""


class _Experiments(click.Group):
    """Imports an experiment when it is asked for, so that none waits for what another needs."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted({*COMMANDS, *super().list_commands(ctx)})

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return super().get_command(ctx, cmd_name)
        command: click.Command = import_module(f".{COMMANDS[cmd_name]}", __package__).command
        return command


@click.group(cls=_Experiments)
@click.version_option(package_name="medcore-prune")
def cli() -> None:
    """Compare pruning criteria on SAM and MedSAM image encoders."""


def main() -> None:
    """Run `medcore-bench`."""
    run(cli)
