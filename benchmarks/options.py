"""Options that several commands share, read into the types that the library takes."""

from typing import Any

import click

from ..errors import BudgetError
from ..level import Level


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


def joined(levels: tuple[Level, ...]) -> str:
    """Write levels as `LevelList` reads them."""
    return ",".join(map(str, levels))
