"""`medcore-bench baselines`: the controlled comparison of the paper's Table 5, after the floors, without recovery."""

from dataclasses import replace

import click

from ..level import COMPARISON_LEVELS
from .comparison import Comparison
from .experiment import experiment_options, running
from .report import render
from .settings import SUBJECT, Settings


@click.command(name="baselines")
@experiment_options("baselines", levels=COMPARISON_LEVELS)
@click.option("--methods", "names", metavar="NAME,...", help="Baselines or criteria.  [default: all but the slow ones]")
@click.option(
    "--compare",
    "subject",
    default=SUBJECT,
    show_default=True,
    help="The method that is compared with each other one.",
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

    Without options: the pocket pair on phantom polyps, in a few minutes. Results are kept as files; run the same
    command again to go on after an interruption, or with more methods and levels.
    """
    settings = replace(settings, methods=tuple(name.strip() for name in (names or "").split(",") if name.strip()))
    with running(settings):
        comparison = Comparison.prepare(settings)
        comparison.run()
        render(comparison.store, gallery=settings.gallery, subject=settings.subject)
