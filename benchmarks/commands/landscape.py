"""`medcore-bench landscape`."""

import click

from ...pruning.level import Level
from .options import method_option
from .words import Words

HEADS = (0, 30, 40, 50, 60, 70, 80, 84)
NEURONS = (0, 30, 50, 70, 80, 90, 95)
LEVELS = tuple(Level(h / 100, m / 100) for h in HEADS for m in NEURONS if h or m)

WORDS = Words(
    "landscape",
    """Map Boundary F1 over the share of heads and of MLP neurons that go, without recovery.

    A heat map with lines of equal parameters, and slices at fixed MLP
    compression; on the built-in pair and drawn polyps by default.

    \b
    Example:
      medcore-bench landscape --quick
    """,
    options=(
        method_option,
        click.option(
            "--correct/--no-correct",
            default=False,
            help="Draw it after the training-free correction too.",
        ),
    ),
    levels=LEVELS,
    fixed={"gallery": False},
)
command = WORDS.command()
