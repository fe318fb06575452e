"""`medcore-prune phantoms`: drawn images with exact masks as a folder, to try the other commands on."""

from pathlib import Path
from typing import Any

import click

from .group import Command, loading
from .options import FOLDER, PHANTOMS, more, seed_option


@click.command(name="phantoms", cls=Command)
@click.option(
    "--set",
    "name",
    type=click.Choice(PHANTOMS),
    default="phantom_polyp_a",
    metavar="SET",
    help=f"What to draw: {', '.join(PHANTOMS)}.",
)
@click.option("--count", type=click.IntRange(1, 100_000), default=12, metavar="N", help="How many images.")
@click.option("--out", type=FOLDER, default=Path("phantoms"), help="Folder to write, which is new or empty.")
@more("--size", type=click.IntRange(32, 4096), default=128, metavar="PIXELS", help="Side of the square images.")
@seed_option("Seed of the drawing; another one gives other images.")
def command(**given: Any) -> None:
    """Draw phantom images with masks into a folder, to try the tool on.

    Writes images/ and masks/ with equal names, and boxes.csv with the box of
    every mask: the layout that --data reads, and the table that the command
    predict reads with --boxes. Drawn images, not clinical data.

    \b
    Example:
      medcore-prune phantoms --out phantoms
    """
    with loading():
        from .work.phantoms import run

    run(**given)
