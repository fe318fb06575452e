"""What a command says besides its results: to who asked for details, with `--verbose`, and to all others."""

import click

from ...options import VERBOSE


def is_verbose() -> bool:
    """Whether the command that runs was given `--verbose`."""
    context = click.get_current_context(silent=True)
    return context is not None and bool(context.meta.get(VERBOSE))


def detail(text: str) -> None:
    """Print what developers want to know, on standard error, where details are asked for."""
    if is_verbose():
        click.echo(text, err=True)
