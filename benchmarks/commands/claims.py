"""`medcore-bench claims`."""

from pathlib import Path
from typing import Any

import click

from .options import results_option
from .words import BenchCommand


@click.command(name="claims", cls=BenchCommand)
@click.option(
    "--results",
    multiple=True,
    metavar="NAME=DIR",
    help="A folder that holds experiments' results, and a name for it; may be repeated.  [default: "
    "here=medcore-results]",
)
@click.option(
    "--earlier",
    "before",
    type=click.Path(dir_okay=False, exists=True, path_type=Path),
    metavar="FILE",
    help="The claims.json of an earlier page: what it found stands where these results have nothing newer.",
)
@results_option("--out", default=Path("medcore-results/claims"), says="Folder of the page and its tables.")
def command(**given: Any) -> None:
    """Hold the paper's claims against the results of the experiments that have run.

    \b
    Example:
      medcore-bench claims --results phantoms=medcore-results
    """
    from ..experiments.claims import run

    run(**given)
