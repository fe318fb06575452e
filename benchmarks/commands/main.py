"""`medcore-bench main`."""

import click

from ...commands.options import ray_option
from ...commands.values import Whole
from ...pruning.level import Level
from .options import LevelList, joined, method_option, steps_option
from .words import RECOVERY, Setting, Words

ONE_TIME = tuple(map(Level.parse, ("h40_m30", "h50_m70", "h70_m70", "h70_m95")))
SEQUENTIAL = tuple(map(Level.parse, ("h60_m70", "h72_m84", "h84_m95")))

WORDS = Words(
    "main",
    """Compress with recovery, one-time and sequential, and measure contours, size, latency and memory.

    Recovery is fine-tuning towards the unpruned model. That model is shown
    after the same recovery too, so that what fine-tuning gains is not credited
    to pruning. On the built-in pair and drawn polyps by default.

    \b
    Example:
      medcore-bench main --quick --one-time h50_m70 --no-sequential
    """,
    options=(
        method_option,
        click.option(
            "--one-time",
            type=LevelList(),
            default=joined(ONE_TIME),
            show_default=False,
            help=f"Levels, each reached in one go.  [default: {joined(ONE_TIME, ', ')}]",
        ),
        click.option(
            "--sequential",
            type=LevelList(),
            default=joined(SEQUENTIAL),
            show_default=False,
            help="Levels reached by a second pass over a recovered model, on the blocks that the first left whole.  "
            f"[default: {joined(SEQUENTIAL, ', ')}]",
        ),
        click.option("--no-sequential", is_flag=True, help="Leave the sequential levels out."),
        steps_option,
        ray_option,
    ),
    rare={
        **RECOVERY,
        "schedule": Setting(
            click.Choice(["one-shot", "cascade"]),
            "cut heads and MLP together, or heads first with a short recovery in between (cascade)",
        ),
        "starts": Setting(
            click.Choice(["all", "corrected"]),
            "what is recovered at one-time levels: the cut and the corrected model (all), or the latter alone",
        ),
        "protect": Setting(Whole(), "deepest blocks that one-time levels leave whole (depth / 6)"),
    },
    fixed={"gallery": False},
)
command = WORDS.command()
