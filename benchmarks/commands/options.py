"""Options that several commands of `medcore-bench` share, and the types of their values."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import click

from ..._support.errors import BudgetError
from ...commands.options import FOLDER, MODEL, MODEL_FILE
from ...commands.values import Completed, MethodName, OneLevel, Whole
from ...pruning.level import Level
from ..runner.settings import COUNTS, SUBJECT

CACHE = Path("medcore-results/calibration")
"""Of the studies."""

F = TypeVar("F", bound=Callable[..., Any])


pair_options = (
    click.option(
        "--adapted",
        type=MODEL,
        metavar=MODEL_FILE,
        help="Model that is pruned.  [default: the built-in one, pocket, for drawn images]",
    ),
    click.option(
        "--reference",
        type=MODEL,
        metavar=MODEL_FILE,
        help="What it was fine-tuned from.  [default: the built-in one's, for the built-in model alone]",
    ),
)
"""The models of a comparison, for `all_of`."""


class LevelList(Completed):
    """Levels separated by commas, such as `h50_m70,h70_m70`; a repeated one counts once."""

    name = "level,..."
    words = OneLevel.words
    several = True

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[Level, ...]:
        """Read the levels, or end with a usage error that names the bad one."""
        if isinstance(value, tuple):
            return value
        try:
            return tuple(dict.fromkeys(Level.parse(text) for text in str(value).split(",")))
        except BudgetError as error:
            self.fail(str(error), param, ctx)


def joined(levels: Sequence[Level], between: str = ",") -> str:
    """Write levels as `LevelList` reads them, or with spaces `between` them, for help to break lines at."""
    return between.join(map(str, levels))


def method_option(command: F) -> F:
    """Add `--method`: the one that takes part, and the subject of the tables where no other is fixed."""
    return click.option(
        "--method",
        type=MethodName(),
        default=SUBJECT,
        metavar="METHOD",
        help="The method whose scores choose what goes; `medcore-bench list` explains them.",
    )(command)


def methods_option(**options: Any) -> Callable[[F], F]:
    """Return a decorator that adds `--methods`; without a default, what is not given are no names."""

    def given(_ctx: click.Context, _param: click.Parameter, names: tuple[str, ...] | None) -> tuple[str, ...]:
        return names or ()

    return click.option("--methods", type=MethodName(several=True), metavar="METHOD,...", callback=given, **options)


def steps_option(command: F) -> F:
    """Add `--steps`."""
    counts = f"{COUNTS['default'].recovery_steps}; {COUNTS['quick'].recovery_steps} with --quick, "
    return click.option(
        "--steps",
        type=Whole(1),
        metavar="N",
        help=f"Steps of the optimiser in a recovery.  [default: {counts}{COUNTS['full'].recovery_steps} with --full]",
    )(command)


def results_option(*names: str, default: Path | None, says: str) -> Callable[[F], F]:
    """Return a decorator that adds an option for a folder of results."""
    return click.option(*names, type=FOLDER, default=default, help=says)


def page_option(default: str) -> Callable[[F], F]:
    """Return a decorator that adds `--out` of a study, which writes one page."""
    return click.option(
        "--out",
        type=click.Path(dir_okay=False, path_type=Path),
        default=Path(default),
        help="The page, Markdown; the same as JSON goes beside it.",
    )


def count_option(name: str, default: int, says: str) -> Callable[[F], F]:
    """Return a decorator that adds an option for how many there are of something."""
    return click.option(name, type=Whole(1), default=default, metavar="N", help=says)


def levels_option(levels: Sequence[Level]) -> Callable[[F], F]:
    """Return a decorator that adds `--levels`."""
    return click.option(
        "--levels",
        type=LevelList(),
        default=joined(levels),
        show_default=False,
        help="How much goes: h50_m70 is 50 % of the attention heads and 70 % of the MLP neurons.  "
        f"[default: {joined(levels, ', ')}]",
    )
