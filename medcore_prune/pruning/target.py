"""Compression targets: one number for the whole encoder, such as `params=60%`."""

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .._support.errors import BudgetError

if TYPE_CHECKING:  # the command line reads targets, and does not wait for torch
    from .cost import Cost

_TEXT = re.compile(r"([a-z]+)\s*=\s*(\d{1,3}(?:\.\d{1,6})?)\s*%", re.ASCII)

REMOVED: dict[str, Callable[["Cost", "Cost"], float]] = {
    "params": lambda left, dense: left.params_removed(dense),
    "flops": lambda left, dense: left.flops_removed(dense),
    "latency": lambda left, dense: left.latency_removed(dense),
}
"""What a target can be a share of, with the share of it that is gone."""

CHUNK = 0.05


@dataclass(frozen=True)
class Target:
    """How much of the image encoder is asked to go.

    Attributes:
        unit: `params`, `flops` as the paper counts them, or `latency`, milliseconds on the machine that asks.
        fraction: Share to remove, in (0, 1).

    Raises:
        BudgetError: An unknown unit, or a share that is no number in (0, 1).
    """

    unit: str
    fraction: float

    def __post_init__(self) -> None:
        if self.unit not in REMOVED:
            raise BudgetError(f"target in {self.unit!r}: expected one of {', '.join(REMOVED)}")
        if not (math.isfinite(self.fraction) and 0 < self.fraction < 1):
            raise BudgetError(f"target {self}: expected more than 0 % and less than 100 % of the {self.unit}")

    @classmethod
    def parse(cls, text: "str | Target") -> "Target":
        """Read `params=60%`, `flops=58.4%` or `latency=50%`: that much less than the unpruned encoder has.

        A `Target` stays as it is.

        Raises:
            BudgetError: The text is not of that form, or asks for nothing or everything.
        """
        if isinstance(text, Target):
            return text
        found = _TEXT.fullmatch(text.strip().lower()) if isinstance(text, str) else None
        if found is None:
            raise BudgetError(
                f"cannot read target {text!r}: expected params=<percent>%, flops=<percent>% or latency=<percent>%, "
                "for example params=60% to remove 60 % of the encoder's parameters"
            )
        return cls(found[1], float(found[2]) / 100)

    def reached(self, left: "Cost", dense: "Cost") -> float:
        """Share of the target's unit that is gone, in [0, 1]."""
        return REMOVED[self.unit](left, dense)

    def __str__(self) -> str:
        return f"{self.unit}={100 * self.fraction:.4f}".rstrip("0").rstrip(".") + "%"
