"""`medcore-prune evaluate`: how good a model's contours are, beside floors and beside another model."""

from typing import Any

import click

from .group import Command, loading
from .options import (
    FOLDER,
    MODEL,
    MODEL_FILE,
    Whole,
    data_option,
    device_option,
    more,
    overwrite_option,
    precision_option,
    scoring_options,
    split_seed_option,
    verbose_option,
)


@click.command(name="evaluate", cls=Command)
@click.argument("models", nargs=-1, type=MODEL, metavar=f"[{MODEL_FILE}]...")
@click.option(
    "--against",
    type=MODEL,
    metavar=MODEL_FILE,
    help="Evaluate this model too, and compare each other one with it, image by image.",
)
@data_option()
@device_option
@precision_option()
@click.option("--out", type=FOLDER, help="Also write the table as Markdown, and every image's metrics as CSV.")
@more(
    "--role",
    type=click.Choice(["test", "validation", "all"]),
    default="test",
    help="Which images; all takes folders whole, for models that have seen none of them.",
)
@more(
    "--images",
    type=Whole(1),
    metavar="N",
    help="Images of each set at most, drawn from all of its role.  [default: all of --data, 12 phantoms]",
)
@scoring_options
@split_seed_option
@overwrite_option
@verbose_option
def command(**given: Any) -> None:
    """Measure how good the masks of models are, and their contours.

    Dice and IoU for the area, Boundary F1 and HD95 for the contour: in pixels,
    and in mm too where the spacing of an image's pixels is known (DICOM, or
    spacing_mm in manifest.csv).
    The table begins with two floors that use no network: the filled box, and
    the ellipse in it. Which images are test images is read from the split
    beside the first model; images that a model was trained on are refused.

    \b
    Example:
      medcore-prune evaluate small.safetensors --against pocket --images 4
    """
    with loading():
        from .work.evaluate import run

    run(**given)
