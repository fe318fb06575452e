"""`medcore-bench report`."""

from pathlib import Path
from typing import Any

import click

from ...commands.options import plugin_option
from ...commands.values import MethodName
from .words import BenchCommand


@click.command(name="report", cls=BenchCommand)
@click.argument("folder", type=click.Path(file_okay=False, path_type=Path), metavar="DIR")
@click.option(
    "--compare",
    type=MethodName(),
    metavar="METHOD",
    help="The method that each other one is compared with.  [default: as in the run]",
)
@click.option("--gallery/--no-gallery", default=True, help="Show pictures of the images.")
@plugin_option
def command(**given: Any) -> None:
    """Render the results in DIR again: tables, figures, report.html.

    Nothing is computed anew.

    \b
    Example:
      medcore-bench report medcore-results/baselines
    """
    from ..report.command import run

    run(**given)
