"""What options are read into, beyond click's own types."""

from typing import Any

import click

from .._support.errors import BudgetError
from ..completion import Words
from ..evaluation.evaluate import EvalSize
from ..pruning.level import ONE_TIME_LEVELS, Level
from ..pruning.target import Target
from ..scoring.recipes import available_baselines
from ..scoring.registry import available_criteria

_SMALLEST_GRID, _LARGEST_GRID = 8, 16384
_LARGEST_WHOLE = 2**31 - 1


class Whole(click.IntRange):
    """A whole number that can be a count or a seed: what is larger than 2147483647 is refused, which help leaves out.

    Args:
        least: The smallest that is taken.
    """

    def __init__(self, least: int = 0) -> None:
        super().__init__(min=least)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Read the number, or end with a usage error."""
        number: int = super().convert(value, param, ctx)
        if number > _LARGEST_WHOLE:
            self.fail(f"{number} is too large: expected at most {_LARGEST_WHOLE}", param, ctx)
        return number


class OneLevel(click.ParamType):
    """One level, such as `h50_m70`."""

    name = "level"
    words = tuple(map(str, ONE_TIME_LEVELS))

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Level:
        """Read the level, or end with a usage error."""
        try:
            return Level.parse(value)
        except BudgetError as error:
            self.fail(str(error), param, ctx)


class TargetType(click.ParamType):
    """A target, such as `params=60%`."""

    name = "target"
    words = ("params=60%", "flops=60%")

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Target:
        """Read the target, or end with a usage error."""
        try:
            return Target.parse(value)
        except BudgetError as error:
            self.fail(str(error), param, ctx)


class GridSize(click.ParamType):
    """Side of the grid that masks are compared on, or `original`."""

    name = "pixels|original"
    words = ("256", "original")

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> EvalSize:
        """Read the size, or end with a usage error."""
        if value == "original":
            return "original"
        try:
            size = int(value)
        except ValueError:
            self.fail(f"{value!r} is neither a number of pixels nor original", param, ctx)
        if not _SMALLEST_GRID <= size <= _LARGEST_GRID:
            self.fail(f"{size} pixels: expected {_SMALLEST_GRID} to {_LARGEST_GRID}", param, ctx)
        return size


class BoxType(click.ParamType):
    """A box in image pixels, `x0,y0,x1,y1`."""

    name = "X0,Y0,X1,Y1"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[float, float, float, float]:
        """Read the corners, or end with a usage error."""
        if isinstance(value, tuple):
            return value
        try:
            x0, y0, x1, y1 = (float(part) for part in str(value).split(","))
        except ValueError:
            self.fail(f"{value!r} is no box: expected four numbers such as 10,20,80,90", param, ctx)
        return x0, y0, x1, y1


class MethodName(click.ParamType):
    """A method or criterion, or several with commas; whether there is one of the name is looked up later.

    Plug-ins are loaded in between, so that their names are known.
    """

    name = "method"

    def __init__(self, several: bool = False) -> None:
        self.several = several

    @property
    def words(self) -> list[str]:
        """All names."""
        return sorted({*available_baselines(include_slow=True), *available_criteria()})


def file_or(*words: str) -> click.ParamType:
    """Return the type of a file's name that may also be one of some words."""
    return Words(words, places="file")
