"""`medcore-bench recovery-study`."""

from pathlib import Path
from typing import Any

import click

from ....commands.options import cache_option, device_option
from ....commands.values import Whole
from ..options import CACHE, page_option, results_option
from ..words import BenchCommand, Setting, rarely

COUNTS = {
    "images": 24,
    "training": 64,
    "calibration": 64,
    "trial_steps": 40,
    "trial_batch": 8,
    "steps": 150,
    "batch": 16,
}
_SAYS = {
    "images": "validation images of each set",
    "training": "training images of each set",
    "calibration": "those that scores come from",
    "trial_steps": "steps of each trial",
    "trial_batch": "images in a step of a trial",
    "steps": "steps of the longer recoveries",
    "batch": "images in a step of those",
}
RARE = {key: Setting(Whole(1), f"{_SAYS[key]} ({default})") for key, default in COUNTS.items()}


@click.command(name="recovery-study", cls=BenchCommand)
@device_option
@cache_option(str(CACHE), CACHE)
@results_option("--store", default=Path("medcore-results/recoveries"), says="Folder where recovered models are kept.")
@page_option("medcore-results/recovery_defaults.md")
@rarely(RARE)
def command(**given: Any) -> None:
    """Settle learning rate and weights of the recovery loss on phantom validation images.

    A long study, which settled this package's own defaults.

    \b
    Example:
      medcore-bench recovery-study --set images=24 --set training=64
    """
    from ...studies.recovery import run

    rare = given.pop("rare")
    run(**{**COUNTS, **given, **rare})
