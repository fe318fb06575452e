"""`medcore-prune export`: a model as ONNX, proved under ONNX Runtime."""

from pathlib import Path
from typing import Any

import click

from .group import Command
from .options import (
    FOLDER,
    ONNX_EXPORTERS,
    ONNX_PARTS,
    Whole,
    data_option,
    model_argument,
    more,
    overwrite_option,
    split_seed_option,
)


@click.command(name="export", cls=Command)
@model_argument()
@click.option(
    "--part",
    type=click.Choice([*ONNX_PARTS, "all"]),
    default="all",
    help="encoder.onnx, decoder.onnx (box prompt and mask decoder), whole.onnx (the two in one), or all.",
)
@click.option(
    "--int8",
    is_flag=True,
    help="Also encoder_int8.onnx: its linear layers in int8, judged by the contour on validation images.",
)
@data_option()
@click.option("--out", type=FOLDER, default=Path("onnx"), help="Folder of the files.")
@more(
    "--images", type=Whole(2), default=3, metavar="N", help="Images of each set to compare PyTorch and ONNX Runtime on."
)
@more(
    "--exporter",
    type=click.Choice(ONNX_EXPORTERS),
    default="torchscript",
    help="PyTorch's older exporter, or its newer and much slower one; both gave the same numbers.",
)
@split_seed_option
@overwrite_option
def command(**given: Any) -> None:
    """Write a model as ONNX, and compare it with PyTorch under ONNX Runtime.

    encoder.onnx takes an image and gives its embedding; decoder.onnx takes
    that and a box and gives logits and probabilities at low resolution;
    whole.onnx does both. Any number of images at a time; the input side is the
    model's. comparison.json beside them holds the differences, README.md says
    what goes in and comes out, and segment.py makes masks without this package.

    With --int8 a table has Dice, Boundary F1 and HD95 of the encoder in int8
    beside the float model, with paired intervals of the difference.

    Needs the extra onnx: pip install "medcore-prune[onnx]"

    \b
    Example:
      medcore-prune export small.safetensors --part whole --out onnx
      medcore-prune export small.safetensors --part encoder --int8 --out onnx
    """
    from .work.export import run

    run(**given)
