"""`medcore-bench baselines`: the controlled comparison of the paper's Table 5, after the floors, without recovery."""

from dataclasses import replace

import click

from ..commands.options import MethodName
from ..pruning.level import COMPARISON_LEVELS
from .comparison import Comparison
from .experiment import experiment_options, running
from .report import render
from .settings import SUBJECT, Settings


@click.command(name="baselines")
@experiment_options("baselines", levels=COMPARISON_LEVELS)
@click.option(
    "--methods",
    "names",
    type=MethodName(several=True),
    metavar="METHOD,...",
    help="What to compare; `medcore-bench list` explains them.  [default: all but the slow ones]",
)
@click.option(
    "--compare",
    "subject",
    type=MethodName(),
    default=SUBJECT,
    show_default=True,
    metavar="METHOD",
    help="The method that each other one is compared with.",
)
@click.option(
    "--correct/--no-correct",
    default=True,
    show_default=True,
    help="Evaluate every pruned model after the training-free correction too.",
)
@click.option("--gallery/--no-gallery", default=True, show_default=True, help="Keep and show pictures of the images.")
def command(settings: Settings, names: str | None) -> None:
    """Compare pruning methods on the same groups, levels, images and seeds, with no recovery.

    Without options: the built-in pair on drawn polyps, in a few minutes.
    Results are kept as files; run the same command again to go on after an
    interruption, or with more methods and levels.

    \b
    Example:
      medcore-bench baselines --quick --methods magnitude,medcore
    """
    settings = replace(settings, methods=tuple(name.strip() for name in (names or "").split(",") if name.strip()))
    with running(settings):
        comparison = Comparison.prepare(settings)
        comparison.run()
        render(comparison.store, gallery=settings.gallery, subject=settings.subject)
