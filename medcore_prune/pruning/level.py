"""Compression levels: which share of all heads and of all MLP neurons is asked to go."""

import math
import re
from dataclasses import dataclass

from .._support.errors import BudgetError

_TEXT = re.compile(r"h(\d{1,3}(?:\.\d{1,6})?)_m(\d{1,3}(?:\.\d{1,6})?)", re.ASCII)
_TARGET = re.compile(r"[a-z]+\s*=")
_NUMBER = re.compile(r"\d+(?:\.\d+)?", re.ASCII)


@dataclass(frozen=True, order=True)
class Level:
    """A nominal compression level, written `h<heads %>_m<MLP %>` (METHOD section 7).

    Attributes:
        heads: Share of all heads that is asked to go, in [0, 1); kept to a millionth, so that text and value agree.
        neurons: Share of all MLP neurons, likewise.

    Raises:
        BudgetError: A share is no number in [0, 1).
    """

    heads: float
    neurons: float

    def __post_init__(self) -> None:
        for name in ("heads", "neurons"):
            value = float(getattr(self, name))
            # rounding first: 0.9999999 would otherwise become 1 after the check
            kept = round(value, 6) if math.isfinite(value) else value
            if not 0 <= kept < 1:
                raise BudgetError(
                    f"a level removes a share of {name} in [0, 1), got {value:g}: every block keeps at least one head "
                    "and 5 % of its neurons"
                )
            object.__setattr__(self, name, kept)

    @classmethod
    def parse(cls, text: "str | Level") -> "Level":
        """Read `h50_m70` (percent, decimals allowed) as a level; a `Level` comes back as it is.

        Raises:
            BudgetError: The text is not of that form, or asks for 100 % or more.
        """
        if isinstance(text, Level):
            return text
        found = _TEXT.fullmatch(text.strip().lower()) if isinstance(text, str) else None
        if found is None:
            raise BudgetError(
                f"cannot read level {str(text)[:80]!r}: expected h<percent>_m<percent>, for example h50_m70 for half "
                f"of the heads and 70 % of the MLP neurons{_instead(text)}"
            )
        heads, neurons = (float(percent) for percent in found.groups())
        if heads >= 100 or neurons >= 100:
            raise BudgetError(f"level {text!r} asks for everything: both percentages must be below 100")
        return cls(heads / 100, neurons / 100)

    def __str__(self) -> str:
        return f"h{_percent(self.heads)}_m{_percent(self.neurons)}"


def _instead(given: object) -> str:
    """Say how a level is made of what was given, where that can be told."""
    if isinstance(given, str) and _TARGET.match(given.strip().lower()):
        target = given.strip()[:80]
        return f"; a target is no level: mp.automatic_plan(model, {target!r}) divides it between heads and neurons"
    if isinstance(given, str):
        numbers = [float(number) for number in _NUMBER.findall(given)[:3]]
    elif isinstance(given, int | float) and not isinstance(given, bool):
        numbers = [100 * float(given)]
    elif isinstance(given, tuple | list) and all(isinstance(each, int | float) for each in given):
        numbers = [100 * float(each) for each in given[:3]]
    else:
        return ""
    pair = numbers * 2 if len(numbers) == 1 else numbers
    if len(pair) != 2 or not all(0 <= number < 100 for number in pair):
        return ""
    return f"; did you mean {Level(pair[0] / 100, pair[1] / 100)}?"


def _percent(fraction: float) -> str:
    return f"{100 * fraction:.4f}".rstrip("0").rstrip(".")


ONE_TIME_LEVELS = tuple(map(Level.parse, ("h40_m30", "h50_m70", "h70_m70", "h70_m95", "h80_m95", "h84_m95")))
"""Levels of the one-time setting (METHOD section 7), mildest first; the last two saturate alike on 12 x 12 heads."""

COMPARISON_LEVELS = tuple(map(Level.parse, ("h40_m30", "h50_m70", "h70_m70", "h84_m95")))
"""Levels of the controlled comparison (METHOD section 9)."""

SEQUENTIAL_LEVELS = tuple(map(Level.parse, ("h60_m70", "h72_m84", "h84_m95")))
"""Levels of the second pass over the formerly protected blocks (METHOD section 7)."""

SEQUENTIAL_FIRST = Level.parse("h70_m95")
"""Level of the one-time model that the second pass starts from."""
