"""`medcore-bench correction-study`."""

from typing import Any

import click

from ....commands.options import all_of, cache_option, data_option, device_option
from ....commands.values import Whole
from ....pruning.level import Level
from ..options import CACHE, LevelList, joined, methods_option, page_option, pair_options
from ..words import BenchCommand, Setting, rarely

METHODS = ("random", "medcore")
LEVELS = tuple(Level.parse(text) for text in ("h50_m70", "h70_m70", "h84_m95"))
COUNTS = {"images": 60, "calibration": 64}
RARE = {
    "images": Setting(Whole(1), "drawn images of each set (60)"),
    "calibration": Setting(Whole(1), "training images of each set that scores come from (64)"),
}


@click.command(name="correction-study", cls=BenchCommand)
@all_of(*pair_options)
@data_option("drawn polyps")
@methods_option(default=",".join(METHODS), help="Whose pruned models to correct.")
@click.option(
    "--levels",
    type=LevelList(),
    default=joined(LEVELS),
    show_default=False,
    help=f"Levels that models are pruned to.  [default: {joined(LEVELS, ', ')}]",
)
@click.option(
    "--variants",
    metavar="NAME,...",
    help="Variants of the correction; an unknown name lists them.  [default: all]",
)
@device_option
@cache_option(str(CACHE), CACHE)
@page_option("medcore-results/correction.md")
@rarely(RARE)
def command(**given: Any) -> None:
    """Try the training-free correction in every variant, on validation images.

    A long study, which settled this package's own defaults.

    \b
    Example:
      medcore-bench correction-study --methods medcore --levels h70_m70
    """
    from ...studies.correction import run

    rare = given.pop("rare")
    run(**{**COUNTS, **given, **rare})
