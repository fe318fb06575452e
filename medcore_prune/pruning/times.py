"""Block times as data: milliseconds of an encoder's parts over the heads and neurons that they have."""

from bisect import bisect_left
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from torch import nn

from .._support.errors import BudgetError
from ..evaluation.latency import compare_latency
from ..models.groups import FAMILY_NAMES
from ..models.switches import evaluating
from .budget import Key
from .plan import Plan

ROUNDS = 7
"""Rounds that count, unless said otherwise."""
ALLOWED = 0.1
"""How far a prediction may be from what the pruned model takes, as a share of it."""

Curve = tuple[tuple[int, float], ...]
"""Units and milliseconds, ascending in both."""


@dataclass(frozen=True)
class BlockTimes:
    """Milliseconds of an encoder's parts for one batch.

    Attributes:
        curves: Of each group (block, family), what its layers take with so many units: from attention's input to its
            output, from the MLP's first layer to its second.
        rest_ms: What everything else takes, which no plan changes.
        measured: What it is of: device, threads, batch, precision, versions, sizes.
        path: The file that keeps it, None for none.
    """

    curves: Mapping[Key, Curve] = field(repr=False)
    rest_ms: float
    measured: Mapping[str, Any] = field(repr=False)
    path: Path | None = None

    def part(self, key: Key, units: int) -> float:
        """Milliseconds of a group that keeps so many units, between measured sizes by linear interpolation.

        Raises:
            BudgetError: No such group, or more or fewer units than were measured.
        """
        curve = self.curves.get(key, ())
        if not curve or not curve[0][0] <= units <= curve[-1][0]:
            known = f"{curve[0][0]} to {curve[-1][0]}" if curve else "none"
            raise BudgetError(f"block {key[0]}: times are known of {known} {key[1]}, not of {units}: measure them anew")
        after = bisect_left(curve, units, key=lambda point: point[0])
        (high, slow) = curve[after]
        if high == units:
            return slow
        low, fast = curve[after - 1]
        return fast + (slow - fast) * (units - low) / (high - low)

    def encoder_ms(self, kept: Mapping[Key, int] | None = None) -> float:
        """Milliseconds of the whole encoder with so many units in every group; None for all that was measured.

        Raises:
            BudgetError: Other groups than were measured, or units beyond them.
        """
        if kept is None:
            return self.rest_ms + sum(curve[-1][1] for curve in self.curves.values())
        if kept.keys() != self.curves.keys():
            raise BudgetError(f"times are known of {len(self.curves)} groups, not of these {len(kept)}: measure anew")
        return self.rest_ms + sum(self.part(key, units) for key, units in kept.items())

    def check(self, model: nn.Module, small: nn.Module, plan: Plan, rounds: int = ROUNDS) -> "CheckedTime":
        """Run the encoder whole and pruned, in turn, and hold the prediction against it."""
        with evaluating(model, small):
            found = compare_latency(
                {"whole": model, "small": small}, batch=int(self.measured.get("batch", 1)), repeats=rounds
            )
        kept: dict[Key, int] = {(b.block, family): len(b.keep(family)) for b in plan.blocks for family in FAMILY_NAMES}
        predicted = 1 - self.encoder_ms(kept) / self.encoder_ms()
        return CheckedTime(predicted, found["whole"].median_ms, found["small"].median_ms)


@dataclass(frozen=True)
class CheckedTime:
    """A predicted saving beside a measured one.

    Attributes:
        predicted: Share of the encoder's time that was expected to go.
        whole_ms, small_ms: What the encoder takes, unpruned and pruned: medians of rounds in which both took turns.
    """

    predicted: float
    whole_ms: float
    small_ms: float

    @property
    def removed(self) -> float:
        """Share of the encoder's time that is gone."""
        return 1 - self.small_ms / self.whole_ms

    @property
    def error(self) -> float:
        """How far the predicted time of the pruned encoder is off, as a share of the measured one."""
        return (1 - self.predicted) / (1 - self.removed) - 1

    @property
    def holds(self) -> bool:
        """Whether it is off by at most `ALLOWED`."""
        return abs(self.error) <= ALLOWED

    def to_dict(self) -> dict[str, float]:
        """Plain values for a report."""
        return {**asdict(self), "removed": self.removed, "error": self.error}
