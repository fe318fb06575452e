"""`medcore-bench baselines`."""

import click

from ...commands.options import ray_option
from ...commands.values import MethodName, Whole
from ...correction.search.settings import CANDIDATES, GENERATIONS
from ...pruning.level import COMPARISON_LEVELS
from ..runner.settings import SUBJECT
from .options import methods_option
from .words import Setting, Words

WORDS = Words(
    "baselines",
    """Compare pruning methods on the same groups, levels, images and seeds, with no recovery.

    Without options: the built-in pair on drawn polyps, in a few minutes.
    Results are kept as files; run the same command again to go on after an
    interruption, or with more methods and levels.

    \b
    Example:
      medcore-bench baselines --quick --methods magnitude,medcore
    """,
    options=(
        methods_option(
            help="What to compare; `medcore-bench list` explains them.  [default: all but the slow ones]",
        ),
        click.option(
            "--compare",
            "subject",
            type=MethodName(),
            default=SUBJECT,
            metavar="METHOD",
            help="The method that each other one is compared with.",
        ),
        click.option(
            "--correct/--no-correct",
            default=True,
            help="Evaluate every pruned model after the training-free correction too.",
        ),
        click.option(
            "--search",
            is_flag=True,
            help="Search a budget for every method too, at the parameters of each level, so that what the score gives "
            "is told from what the budget gives.",
        ),
        click.option("--gallery/--no-gallery", default=True, help="Keep and show pictures of the images."),
        ray_option,
    ),
    rare={"generations": Setting(Whole(1), f"of each --search, {CANDIDATES} states each ({GENERATIONS})")},
    levels=COMPARISON_LEVELS,
)
command = WORDS.command()
