"""The figures of the tables: macro averages, intervals, differences, ranks (METHOD section 10)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TypeAlias

from ..evaluation.intervals import Array, Interval, interval
from ..pruning.level import Level
from .records import NO_LEVEL
from .settings import MODES

HIGHER_IS_BETTER = {"dice": True, "iou": True, "bf1": True, "hd95_px": False}
"""The four metrics of the paper's Table 5."""
MORE_METRICS = {"bf1_1px": True, "bf1_3px": True, "hd95_percent": False}
"""Shown in the CSV file besides."""
METRICS = HIGHER_IS_BETTER | MORE_METRICS
FLOOR_PREFIX = "floor_"
UNPRUNED = "unpruned"
SIGNIFICANT = 0.05

Place: TypeAlias = tuple[str, str, str]
"""Mode, level, method: a row of a table."""


@dataclass(frozen=True)
class Drawn:
    """A row's macro averages and their bootstrap draws, by metric."""

    points: Mapping[str, float]
    draws: Mapping[str, Array]


@dataclass(frozen=True)
class Row:
    """One method at one level.

    Attributes:
        mode, level, method: Which.
        metrics: Macro averages with their intervals.
        by_dataset: Data set to metric means.
        cost: Shares removed and what is left, averaged over seeds.
        below_floor: Metrics in which a floor is better.
        below_floor_on: The same on each data set.
        empty: Images where one mask, or both, are empty, over all seeds.
        seeds: How many seeds it is the mean of.
    """

    mode: str
    level: str
    method: str
    metrics: Mapping[str, Interval]
    by_dataset: Mapping[str, Mapping[str, float]]
    cost: Mapping[str, float]
    below_floor: frozenset[str]
    below_floor_on: Mapping[str, frozenset[str]]
    empty: Mapping[str, int]
    seeds: int


@dataclass(frozen=True)
class Difference:
    """The subject minus another method, paired.

    Attributes:
        mode, level, method, metric: Which, `method` being the other one.
        value: With its interval.
        p, p_holm: Two-sided bootstrap p, and corrected over the methods of a mode, level and metric.
    """

    mode: str
    level: str
    method: str
    metric: str
    value: Interval
    p: float
    p_holm: float

    @property
    def significant(self) -> bool:
        """Whether the interval excludes 0 and the corrected p is small."""
        return not self.value.holds_zero and self.p_holm < SIGNIFICANT

    @property
    def verdict(self) -> str:
        """`better` or `worse` for the subject, or `n.s.` (not significant)."""
        if not self.significant:
            return "n.s."
        return "better" if (self.value.value > 0) == METRICS[self.metric] else "worse"


@dataclass(frozen=True)
class Rank:
    """Where the subject stands among the methods of a mode and level; 1 is best."""

    mode: str
    level: str
    metric: str
    rank: int
    of: int


@dataclass(frozen=True)
class Summary:
    """Everything that tables and plots show of the cells.

    Attributes:
        rows: Floors and unpruned model first, then by mode, level and method.
        differences: Of the subject from each other method.
        ranks: Of the subject.
        subject: The method that is compared with each other one.
        groups: Data set to its number of groups.
        images: Data set to its number of images.
        indicative: Data sets with too few groups.
        incomplete: Rows left out because a data set is missing.
        calibration_draws: Number of calibration samples.
        notice: What every output of the run says, if anything.
        tolerance_px: Of BF1, in pixels of the 256 grid.
        modes: Name to title of the modes that have rows.
        drawn: Bootstrap draws of every row's macro averages, the same draws for all.
    """

    rows: Sequence[Row]
    differences: Sequence[Difference]
    ranks: Sequence[Rank]
    subject: str
    groups: Mapping[str, int]
    images: Mapping[str, int]
    indicative: Sequence[str]
    incomplete: Sequence[Place] = field(default_factory=list)
    calibration_draws: int = 1
    notice: str = ""
    tolerance_px: float = 2.0
    modes: Mapping[str, str] = field(default_factory=lambda: dict(MODES))
    drawn: Mapping[Place, Drawn] = field(default_factory=dict, repr=False)

    def paired(self, place: Place, other: Place, metric: str = "bf1") -> Interval | None:
        """Difference of one row from another with its paired interval; None where either is missing."""
        if place not in self.drawn or other not in self.drawn:
            return None
        own, theirs = self.drawn[place], self.drawn[other]
        return interval(own.points[metric] - theirs.points[metric], own.draws[metric] - theirs.draws[metric])

    def row(self, place: Place) -> Row | None:
        """The row of a mode, level and method, if there is one."""
        return next((row for row in self.rows if (row.mode, row.level, row.method) == place), None)

    @cached_property
    def levels(self) -> list[str]:
        """Nominal levels, mildest first."""
        return sorted({row.level for row in self.rows} - {NO_LEVEL}, key=Level.parse)

    @cached_property
    def methods(self) -> list[str]:
        """Methods in the order of the tables, without floors and unpruned model."""
        return list(dict.fromkeys(row.method for row in self.rows if row.level != NO_LEVEL))

    def of(self, mode: str, level: str) -> list[Row]:
        """Rows of one mode and level."""
        return [row for row in self.rows if (row.mode, row.level) == (mode, level)]

    def of_mode(self, mode: str) -> list[Row]:
        """Rows of one mode, all levels."""
        return [row for row in self.rows if row.mode == mode]

    @property
    def unpruned_rows(self) -> list[Row]:
        """The floors, then the unpruned model."""
        return [row for row in self.rows if row.level == NO_LEVEL]
