"""Options that several commands share, read into the types that the library takes."""

from typing import Any

import click

from ..errors import BudgetError
from ..evaluation import EvalSize
from ..level import Level

_SMALLEST_GRID = 8


class LevelList(click.ParamType):
    """Levels separated by commas, such as `h50_m70,h70_m70`; a repeated one counts once."""

    name = "LEVEL,..."

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[Level, ...]:
        """Read the levels, or end with a usage error that names the bad one."""
        if isinstance(value, tuple):
            return value
        try:
            return tuple(dict.fromkeys(Level.parse(text) for text in str(value).split(",")))
        except BudgetError as error:
            self.fail(str(error), param, ctx)


class OneLevel(click.ParamType):
    """One level, such as `h70_m95`."""

    name = "LEVEL"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Level:
        """Read the level, or end with a usage error."""
        try:
            return Level.parse(value)
        except BudgetError as error:
            self.fail(str(error), param, ctx)


class GridSize(click.ParamType):
    """Side of the grid that masks are compared on, or `original`."""

    name = "PIXELS|original"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> EvalSize:
        """Read the size, or end with a usage error."""
        if value == "original":
            return "original"
        try:
            size = int(value)
        except ValueError:
            self.fail(f"{value!r} is neither a number of pixels nor original", param, ctx)
        if size < _SMALLEST_GRID:
            self.fail(f"{size} pixels: expected at least {_SMALLEST_GRID}", param, ctx)
        return size


def joined(levels: tuple[Level, ...]) -> str:
    """Write levels as `LevelList` reads them."""
    return ",".join(map(str, levels))
