"""Whether one model is better than another on the same images: a paired bootstrap over groups of images.

Groups are drawn with replacement within each data set, their images averaged, and the data sets averaged: the macro
average of METHOD section 10.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from ._support.errors import MetricError
from .intervals import INDICATIVE_BELOW, Bootstrap, interval

_KEYS = ["dataset", "name"]
_DRAWS = 2000


@dataclass(frozen=True)
class Difference:
    """A paired difference of one metric.

    Attributes:
        metric: Column of the tables.
        value: Macro average of the first minus that of the second.
        low, high: 95 % percentile interval.
        groups: Fewest groups of images in a data set.
    """

    metric: str
    value: float
    low: float
    high: float
    groups: int

    @property
    def significant(self) -> bool:
        """Whether 0 lies outside of the interval."""
        # NaN is on neither side
        return self.low > 0 or self.high < 0

    @property
    def indicative(self) -> bool:
        """Whether there are too few groups for the interval to be more than indicative."""
        return self.groups < INDICATIVE_BELOW


def paired_difference(
    first: pd.DataFrame, second: pd.DataFrame, metric: str, *, draws: int = _DRAWS, seed: int = 0
) -> Difference:
    """Compare two tables of `evaluate` over the same images.

    Args:
        first, second: A row an image and data set, with `dataset`, `name`, `group` and the metric.
        metric: A column of numbers.
        draws: Of the bootstrap.
        seed: Of the draws.

    Returns:
        The difference, first minus second, with its interval.

    Raises:
        MetricError: The tables are of other images, lack the metric, or an image has no group.
    """
    for table in (first, second):
        if not {*_KEYS, "group", metric} <= set(table):
            got = ", ".join(map(str, table))[:200]
            raise MetricError(f"expected tables of `evaluate` with {metric!r}, got columns {got}")
    left, right = (table.set_index(_KEYS).sort_index() for table in (first, second))
    if not left.index.equals(right.index) or not left.index.is_unique or left.empty:
        raise MetricError("expected the same images once in both tables: evaluate both models on the same role")
    rows = pd.DataFrame({"group": left["group"], "value": left[metric] - right[metric]}).reset_index()
    by_set = {str(name): part for name, part in rows.groupby("dataset", sort=True)}
    bootstrap = Bootstrap({name: list(part["group"]) for name, part in by_set.items()}, draws=draws, seed=seed)
    point, drawn = bootstrap.macro({name: part["value"].to_numpy(np.float64) for name, part in by_set.items()})
    found = interval(point, drawn)
    return Difference(metric, found.value, found.low, found.high, min(bootstrap.groups.values()))
