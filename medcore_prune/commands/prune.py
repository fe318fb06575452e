"""`medcore-prune prune`: remove heads and neurons, prove it, and write a file that needs nothing else."""

from pathlib import Path
from typing import Any

import click

from .group import Command, loading
from .options import (
    FILE,
    MODEL,
    MODEL_FILE,
    MethodName,
    OneLevel,
    TargetType,
    Whole,
    cache_option,
    data_option,
    device_option,
    image_size_option,
    model_argument,
    more,
    overwrite_option,
    plugin_option,
    precision_option,
    ray_option,
    seed_option,
    split_seed_option,
    verbose_option,
)


@click.command(name="prune", cls=Command)
@model_argument()
@click.option(
    "--reference",
    type=MODEL,
    metavar=MODEL_FILE,
    help="The checkpoint that it was fine-tuned from, which most methods read.  [default: the built-in one's, for the "
    "built-in model alone]",
)
@data_option()
@click.option(
    "--level",
    type=OneLevel(),
    help="How much goes: h50_m70 is 50 % of the attention heads and 70 % of the MLP neurons.  [default: h50_m70]",
)
@click.option(
    "--target",
    type=TargetType(),
    metavar="KIND=SHARE%",
    help="Instead of --level: params=60% removes 60 % of the encoder's parameters, flops=60% of its FLOPs, latency=50% "
    "of its time on this machine; heads and neurons share it out by themselves.",
)
@click.option(
    "--method",
    type=MethodName(),
    metavar="METHOD",
    help="What decides which go; `medcore-bench list` explains them.  [default: medcore; residual with --search]",
)
@click.option(
    "--search",
    is_flag=True,
    help="Search how much each block keeps, deepest blocks included, by running the refitted model; takes "
    "minutes, and hours for large models on a CPU.",
)
@more(
    "--uniform",
    is_flag=True,
    help="Take as many heads and neurons from every block, deepest ones included: regular shapes, for TensorRT or "
    "transformers. What they cost in Boundary F1 is measured, beside the same cut without.",
)
@more(
    "--multiple-of",
    type=Whole(1),
    default=1,
    metavar="N",
    help="With --uniform: round the neurons that stay in a block to the nearest multiple of N, such as 8.",
)
@click.option("--correct", is_flag=True, help="Refit what is left to the whole model's outputs, without training.")
@device_option
@precision_option("fp32", "tf32")
@click.option("--out", type=FILE, default=Path("pruned.safetensors"), help="Pruned model, .safetensors.")
@more(
    "--calibration",
    type=Whole(1),
    default=16,
    metavar="N",
    help="Training images of each set that scores come from; the paper takes 128.",
)
@more(
    "--protect", type=Whole(), metavar="N", help="Deepest blocks left whole.  [default: depth / 6; none with --search]"
)
@more(
    "--fit-steps",
    type=Whole(),
    default=0,
    metavar="N",
    help="With --correct: then fit each block as a whole to the unpruned one, by N steps such as 200.",
)
@plugin_option
@image_size_option
@seed_option("Seed of which training images scores come from.")
@split_seed_option
@cache_option("the user's cache")
@ray_option
@more("--plan-out", type=FILE, help="Also write which heads and neurons were kept, as JSON.")
@overwrite_option
@verbose_option
def command(**given: Any) -> None:
    """Remove attention heads and MLP neurons from a model, and write what is left as one file.

    The model is what adapt wrote, a MedSAM checkpoint, a file of this tool, or
    the small built-in one. Scores every head and neuron on training images of
    yours (never on test images), removes the least important ones physically,
    and compares the outputs with those of the model with the same ones zeroed.
    The file loads with medcore_prune.load, without the checkpoints it came
    from; a report and the split of the images lie beside it.

    \b
    Example:
      medcore-prune prune --level h50_m70 --calibration 4 --out small.safetensors

    \b
    With SAM ViT-B and your own images:
      medcore-prune prune medsam_vit_b.pth --reference sam_vit_b_01ec64.pth \\
          --data kvasir=Kvasir-SEG --level h50_m70 --calibration 128 \\
          --correct --out medsam_h50_m70.safetensors
    """
    if given["level"] is not None and given["target"] is not None:
        raise click.UsageError("--level and --target both say how much goes: give one")
    if given["uniform"] and (other := [name for name in ("target", "search", "protect") if given[name]]):
        raise click.UsageError(
            f"--uniform takes the same from every block, and --{other[0]} says that blocks differ: give --level alone"
        )
    if given["multiple_of"] > 1 and not given["uniform"]:
        raise click.UsageError("--multiple-of rounds what stays in every block alike: give --uniform too")
    if given["fit_steps"] and not given["correct"]:
        raise click.UsageError("--fit-steps goes on from a correction: give --correct too")
    with loading():
        from .work.prune import run

    run(**given)
