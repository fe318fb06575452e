"""`medcore-bench tune`."""

from typing import Any

import click

from ....commands.options import cache_option, device_option
from ....commands.values import Whole
from ..options import CACHE, page_option
from ..words import BenchCommand, Setting, rarely

COUNTS = {"images": 24, "calibration": 64}
RARE = {
    "images": Setting(Whole(1), "validation images of each set (24)"),
    "calibration": Setting(Whole(1), "training images of each set that scores come from (64)"),
}


@click.command(name="tune", cls=BenchCommand)
@device_option
@cache_option(str(CACHE), CACHE)
@page_option("medcore-results/defaults.md")
@rarely(RARE)
def command(**given: Any) -> None:
    """Settle the open settings on phantom validation images, as many trials for every method.

    A long study, which settled this package's own defaults.

    \b
    Example:
      medcore-bench tune --set images=24 --set calibration=64
    """
    from ...studies.tune import run

    rare = given.pop("rare")
    run(**{**COUNTS, **given, **rare})
