"""`medcore-bench recovery-study`."""

from pathlib import Path
from typing import Any

import click

from ....commands.options import cache_option, device_option
from ....commands.values import Whole
from ..options import CACHE, page_option, results_option
from ..words import BenchCommand, Setting, rarely

COUNTS = {
    "images": 32,
    "training": 64,
    "validation": 24,
    "calibration": 64,
    "steps": 300,
    "batch": 8,
}
_SAYS = {
    "images": "validation images of each set that answers are chosen on",
    "training": "training images of each set",
    "validation": "validation images of each set that choose the weights in a recovery",
    "calibration": "those that scores and correction come from",
    "steps": "steps of a recovery",
    "batch": "images in a step",
}
RARE = {key: Setting(Whole(1), f"{_SAYS[key]} ({default})") for key, default in COUNTS.items()}


@click.command(name="recovery-study", cls=BenchCommand)
@device_option
@cache_option(str(CACHE), CACHE)
@results_option("--store", default=Path("medcore-results/recoveries"), says="Folder where recovered models are kept.")
@page_option("medcore-results/recovery_defaults.md")
@rarely(RARE)
def command(**given: Any) -> None:
    """Settle how corrected models are recovered, on phantom validation images.

    A long study, which settled this package's own defaults.

    \b
    Example:
      medcore-bench recovery-study --set images=24 --set training=64
    """
    from ...studies.recovery import run

    rare = given.pop("rare")
    run(**{**COUNTS, **given, **rare})
