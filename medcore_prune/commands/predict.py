"""`medcore-prune predict`: images and boxes to masks."""

from pathlib import Path
from typing import Any

import click

from .group import Command, loading
from .options import FILE, FOLDER, MASK_FORMATS, device_option, model_argument, more, overwrite_option, precision_option
from .values import BoxType


@click.command(name="predict", cls=Command)
@model_argument(required=True)
@click.argument("image", type=click.Path(path_type=Path), required=False)
@click.option(
    "--box", "box", type=BoxType(), multiple=True, help="Box around an object, in image pixels; may be repeated."
)
@click.option(
    "--boxes",
    type=FILE,
    help="For a folder: a CSV with columns name,x0,y0,x1,y1, a row a box, any number an image.",
)
@device_option
@precision_option()
@click.option("--out", type=FOLDER, default=Path("predictions"), help="Folder of the masks.")
@more(
    "--format",
    "form",
    type=click.Choice(MASK_FORMATS),
    default="png",
    help="dicom-seg, of DICOM images: one segmentation an image, which refers to it, with a segment a box.",
)
@more(
    "--overlay/--no-overlay",
    "drawn",
    default=True,
    help="Also write pictures with contours and boxes drawn over the images.",
)
@overwrite_option
def command(**given: Any) -> None:
    """Segment what boxes enclose, in one image or in a folder of images.

    Writes a mask for each box as PNG, 0 and 255, of the image's own size, a
    picture with contours and boxes drawn over the image, and areas.csv, which
    says how large each object is; for DICOM images, with --format dicom-seg,
    segmentations that refer to them. Images are prepared as the model's family
    asks for: MedSAM's made square, and their range scaled to [0, 1].

    \b
    Example:
      medcore-prune phantoms --out phantoms
      medcore-prune predict small.safetensors phantoms/images/s0_000000.png \\
          --box 40,59,82,80 --out masks
      medcore-prune predict small.safetensors phantoms/images \\
          --boxes phantoms/boxes.csv --out all-masks
    """
    if given["image"] is None:
        raise click.UsageError(
            f"expected a model, then an image: predict FILE {given['model']}; pocket is the built-in phantom model"
        )
    with loading():
        from .work.predict import run

    run(**given)
