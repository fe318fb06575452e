"""`medcore-bench plan`."""

from pathlib import Path
from typing import Any

import click

from ...commands.options import convention_option
from ...commands.values import ModelKind, OneLevel, Whole
from ...pruning.level import ONE_TIME_LEVELS, SEQUENTIAL_FIRST, SEQUENTIAL_LEVELS
from .options import LevelList, joined
from .words import BenchCommand, Setting, rarely

UNLESS_SET: dict[str, Any] = {"tau": 0.5, "protect": None, "mlp_group_size": 1, "strict": False, "image_size": None}
RARE = {
    "tau": Setting(click.FLOAT, "how strongly quotas fall with sensitivity, 0 for not at all (0.5)"),
    "protect": Setting(Whole(), "deepest blocks left whole (depth / 6)"),
    "mlp_group_size": Setting(Whole(1), "neurons that go together (1)"),
    "strict": Setting(click.BOOL, "refuse levels that blocks cannot give in full (false)"),
    "image_size": Setting(Whole(1), "input side in pixels (the model's own)"),
}


@click.command(name="plan", cls=BenchCommand)
@click.option(
    "--model",
    "kind",
    type=ModelKind(),
    metavar="|".join(ModelKind.words),
    default="vit_b",
    help="Which SAM; pocket is the small one that is built in.",
)
@click.option(
    "--levels",
    type=LevelList(),
    help="Levels, each reached in one go; h50_m70 is 50 % of the heads and 70 % of the MLP neurons.  "
    f"[default: {joined(ONE_TIME_LEVELS, ', ')}]",
)
@click.option(
    "--quotas",
    type=click.Choice(["uniform", "sensitivity"]),
    default="uniform",
    help="Whether every block gives the same share, or the more sensitive ones less.",
)
@click.option(
    "--sensitivity",
    "sensitivity_file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="JSON list of every block's sensitivity, for --quotas sensitivity.",
)
@click.option(
    "--sequential",
    "second_levels",
    type=LevelList(),
    help="Levels of a second pass over the protected blocks alone.  [default: "
    f"{joined(SEQUENTIAL_LEVELS, ', ')}; none with --levels]",
)
@click.option(
    "--first",
    type=OneLevel(),
    default=str(SEQUENTIAL_FIRST),
    help="Level of the first pass, before --sequential.",
)
@convention_option
@click.option("--per-block", is_flag=True, help="Also show what every block keeps.")
@click.option(
    "--replay",
    "stored",
    multiple=True,
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="A stored plan to count too, as --save wrote it; may be repeated.",
)
@click.option(
    "--out", type=click.Path(file_okay=False, path_type=Path), help="Folder for the tables, Markdown and CSV."
)
@click.option(
    "--save", type=click.Path(file_okay=False, path_type=Path), help="Folder for the plans, a JSON file each."
)
@rarely(RARE)
def command(**given: Any) -> None:
    """Show what each level removes from an encoder, and what parameters and FLOPs are left.

    Works from the model's shape alone: no weights, no images, seconds. How many
    heads and neurons of each block go is exact; which ones is for a method to
    say, so the plans that are saved here name the first by index.

    \b
    Example:
      medcore-bench plan --model vit_b --levels h50_m70,h70_m70 --per-block
    """
    from ..experiments.levels import run

    rare = given.pop("rare")
    run(**{**UNLESS_SET, **given, **rare})
