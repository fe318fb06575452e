"""`medcore-bench transfer`."""

import click

from ...commands.options import ray_option
from ...commands.values import Whole
from ...pruning.level import Level
from .options import method_option, steps_option
from .words import RECOVERY, Setting, Words

SETS = ("phantom_polyp_a", "phantom_ultrasound", "phantom_skin")
LEVELS = tuple(map(Level.parse, ("h50_m70", "h70_m70", "h70_m95", "h80_m95")))

WORDS = Words(
    "transfer",
    """Compress for several modalities with one plan a level, calibrated over all, recovered on each.

    Beside it, a plan for each modality by itself: what sharing a plan costs. On
    drawn polyp, ultrasound and skin images by default.

    \b
    Example:
      medcore-bench transfer --quick --levels h50_m70
    """,
    options=(
        method_option,
        steps_option,
        ray_option,
        click.option(
            "--own-plans/--no-own-plans",
            default=True,
            help="Plan for each modality by itself as well.",
        ),
    ),
    levels=LEVELS,
    default_data="drawn polyp, ultrasound and skin images",
    rare={
        **RECOVERY,
        "starts": Setting(
            click.Choice(["corrected", "cut"]), "whether what was cut is corrected before it is recovered (corrected)"
        ),
        "protect": Setting(Whole(), "deepest blocks that are left whole (depth / 6)"),
    },
    fixed={"phantom_sets": SETS, "gallery": False},
)
command = WORDS.command()
