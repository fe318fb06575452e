"""`medcore-prune export`: a model as ONNX, proved under ONNX Runtime."""

from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from .group import Command, loading
from .options import (
    FOLDER,
    FORMATS,
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
    "--format",
    "kind",
    type=click.Choice(FORMATS),
    default="onnx",
    help="ONNX files, or a folder for transformers' SamModel.from_pretrained, of cuts by prune --uniform.",
)
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
@click.option("--out", type=FOLDER, show_default=False, help="Folder of the files.  [default: onnx, or transformers]")
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

    With --format transformers the folder is for SamModel.from_pretrained, which
    gives the same outputs; that takes a model with all its heads and as many
    neurons in every block, such as prune --uniform --level h0_m50 leaves.

    ONNX needs the extra onnx: pip install "medcore-prune[onnx]"

    \b
    Example:
      medcore-prune export small.safetensors --part whole --out onnx
      medcore-prune export small.safetensors --part encoder --int8 --out onnx
    """
    kind, out = given.pop("kind"), given.pop("out")
    out = Path(kind) if out is None else out
    if kind == "transformers":
        _refuse_onnx_options()
        from .work.outputs.transformers_folder import run as write_folder

        write_folder(given["model"], out, given["overwrite"])
        return
    with loading():
        from .work.export import run

    part = given.pop("part")
    run(**given, parts=ONNX_PARTS if part == "all" else (part,), out=out)


def _refuse_onnx_options() -> None:
    """Refuse options that the folder for transformers knows nothing of, where they were given."""
    context = click.get_current_context()
    for parameter in context.command.params:
        name = parameter.name or ""
        given = context.get_parameter_source(name) is ParameterSource.COMMANDLINE
        if given and name not in ("model", "kind", "out", "overwrite"):
            raise click.UsageError(f"{parameter.opts[0]} is of ONNX files: leave it out with --format transformers")
