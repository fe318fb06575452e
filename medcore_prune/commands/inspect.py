"""`medcore-prune inspect`: what is inside a model file."""

from typing import Any

import click

from .group import Command, loading
from .options import FILE, convention_option, model_argument, overwrite_option


@click.command(name="inspect", cls=Command)
@model_argument("pocket")
@click.option("--json", "as_json", is_flag=True, help="Print everything as JSON instead, with what was kept.")
@click.option("--out", type=FILE, help="Also draw what is left of every block: .png, .svg or .pdf.")
@convention_option
@overwrite_option
def command(**given: Any) -> None:
    """Show what is inside a model file: sizes, what is left of every block, its history.

    Reads files of this tool, and SAM or MedSAM checkpoints; `pocket` is the
    small built-in model. The file is loaded and checked on the way: a damaged
    one is refused.

    \b
    Example:
      medcore-prune inspect small.safetensors --out blocks.png
    """
    with loading():
        from .work.inspect import run

    run(**given)
