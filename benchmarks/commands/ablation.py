"""`medcore-bench ablation`."""

import click

from ...commands.options import ray_option
from ...commands.values import Whole
from ...pruning.level import Level
from .words import RECOVERY, Words

LEVELS = tuple(map(Level.parse, ("h40_m30", "h50_m70", "h70_m70", "h70_m95")))
FULL = "full"
"""The variant with everything, which the others are compared with."""
FIRST, SECOND = Level.parse("h70_m95"), Level.parse("h84_m95")

WORDS = Words(
    "ablation",
    """Take MedCore apart: without the boundary Fisher, the reset, or the variance over data sets.

    The boundary Fisher weighs errors at contours more, the reset asks what
    giving a unit SAM's weights back would do, the variance what data sets
    disagree on. Without fine-tuning, as the paper's Table 3, on the built-in
    pair and drawn polyps by default.

    \b
    Example:
      medcore-bench ablation --quick --levels h70_m70
    """,
    options=(
        click.option(
            "--sequential",
            is_flag=True,
            help=f"Recover each variant at {FIRST}, cut it again at {SECOND} and recover it: the paper's last column.",
        ),
        click.option("--steps", type=Whole(1), metavar="N", help="Steps of a recovery under --sequential."),
        ray_option,
    ),
    rare=RECOVERY,
    levels=LEVELS,
    fixed={"subject": FULL, "gallery": False, "correct": False},
)
command = WORDS.command()
