"""What both command lines do with a user's mistake."""

import sys

import click

from .errors import MedcorePruneError


def run(command: click.Command) -> None:
    """Run a command; a user's mistake is a message and exit code 1, never a traceback."""
    try:
        command()
    except MedcorePruneError as error:
        click.echo(f"error: {error}", err=True)
        sys.exit(1)
