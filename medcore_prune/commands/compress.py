"""`medcore-prune compress`: a checkpoint and a folder in, the smallest model that keeps the contour out."""

from pathlib import Path
from typing import Any

import click

from .group import Command, loading
from .options import (
    FOLDER,
    MODEL,
    MODEL_FILE,
    OneLevel,
    TargetType,
    Whole,
    data_option,
    device_option,
    more,
    precision_option,
    resume_option,
    seed_option,
    split_seed_option,
    verbose_option,
)


@click.command(name="compress", cls=Command)
@click.argument("model", type=MODEL, metavar=MODEL_FILE)
@data_option(required=True)
@click.option(
    "--keep-contour",
    type=click.FloatRange(0, 1, min_open=True),
    default=0.01,
    metavar="BF1",
    help="Boundary F1 that may be lost on your validation images, at most; the smallest model within it is taken.",
)
@click.option(
    "--level", type=OneLevel(), help="Take this level instead: h50_m70 is 50 % of the heads, 70 % of the MLP."
)
@click.option("--target", type=TargetType(), metavar="KIND=SHARE%", help="Take params=60%, flops=60% or latency=50%.")
@click.option(
    "--adapt",
    type=Whole(),
    default=0,
    metavar="STEPS",
    help="Fine-tune the model on your images first, by so many steps.",
)
@click.option(
    "--recover",
    type=Whole(),
    default=300,
    metavar="STEPS",
    help="Train what is left towards the whole model, by so many steps; 0 for none.",
)
@device_option
@precision_option("fp32", "tf32")
@click.option("--out", type=FOLDER, default=Path("compressed"), help="Folder of everything that is made.")
@more(
    "--images",
    type=Whole(1),
    default=32,
    metavar="N",
    help="Training images of each set that choose what goes and refit what is left.",
)
@more("--batch-size", type=Whole(1), default=16, metavar="N", help="Images a step of --adapt and --recover.")
@more("--onnx/--no-onnx", default=True, help="Also write the encoder as ONNX, in float and int8, with the extra onnx.")
@seed_option("Seed of every draw of images.")
@split_seed_option
@resume_option
@verbose_option
def command(**given: Any) -> None:
    """Make a model smaller and keep its contour: all steps in one, with one report.

    Splits your images, fine-tunes on them if asked, tries how much can go with
    the contour of the validation images kept, refits what is left without
    labels, trains it as long as that gains, writes it for PyTorch and ONNX
    Runtime, and compares it with the whole model on test images that no step
    has seen. Each step's files lie in --out; a stopped run goes on.

    \b
    Example:
      medcore-prune phantoms --out phantoms
      medcore-prune compress pocket --data own=phantoms --level h50_m70 \\
          --images 4 --recover 4 --out compressed

    \b
    With a real model:
      medcore-prune compress lite_medsam --data polyps=Kvasir-SEG \\
          --adapt 300 --batch-size 4 --out compressed
    """
    chosen = [name for name in ("level", "target") if given[name] is not None]
    if len(chosen) > 1:
        raise click.UsageError("--level and --target both say how much goes: give one")
    asked = click.get_current_context().get_parameter_source("keep_contour")
    if chosen and asked is not click.core.ParameterSource.DEFAULT:
        raise click.UsageError(f"--keep-contour and --{chosen[0]} both say how much goes: give one")
    with loading():
        from .work.compressing.run import run

    run(**given)
