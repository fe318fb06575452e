"""`medcore-prune card`: what a pruned file is, to go with it."""

from pathlib import Path
from typing import Any

import click

from .group import Command, loading
from .options import FILE, overwrite_option


@click.command(name="card", cls=Command)
@click.argument("model", type=FILE, metavar="FILE")
@click.option(
    "--evaluation",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="What `evaluate FILE --out DIR` measured of this file; without it the card says: not measured.",
)
@click.option("--license", "licence", metavar="NAME", help="Licence of the model, in the Hub's spelling: apache-2.0.")
@click.option("--out", type=FILE, help="The card, .md.  [default: FILE with .card.md]")
@overwrite_option
def command(**given: Any) -> None:
    """Write the model card of a pruned file: what it is, from what, for what images.

    Origin, images and cost come from the file's header, figures with intervals
    from an evaluation of this very file. What is in neither is said to be not
    measured. The front matter is that of Hugging Face's Hub.

    \b
    Example:
      medcore-prune evaluate small.safetensors --out evaluation
      medcore-prune card small.safetensors --evaluation evaluation
    """
    with loading():
        from .work.card import run

    run(**given)
