"""`medcore-bench list`."""

from typing import Any

import click

from ...commands.options import plugin_option
from .words import BenchCommand


@click.command(name="list", cls=BenchCommand)
@plugin_option
def command(**given: Any) -> None:
    """List methods (recipes that `baselines` compares) and criteria (scores that recipes are built from).

    A criterion of your own takes part in the comparison by itself; a slow one
    only when it is named.

    \b
    Example:
      medcore-bench list --plugin my_criterion.py
    """
    from ..report.listing import run

    run(**given)
