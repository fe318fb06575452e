"""Whether one model is better than another on the same images: a paired bootstrap over groups of images.

Groups are drawn with replacement within each data set, their images averaged, and the data sets averaged: the macro
average of METHOD section 10.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from .errors import MetricError

_KEYS = ["dataset", "name"]
_DRAWS = 2000
_CHUNK = 1 << 22  # weights held at a time
INDICATIVE_BELOW = 10
"""With fewer groups than this in a data set an interval is called indicative."""


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
        return not self.low <= 0 <= self.high

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
        MetricError: The tables are of other images, or lack the metric.
    """
    for table in (first, second):
        if metric not in table or not set(_KEYS) <= set(table):
            got = ", ".join(map(str, table))[:200]
            raise MetricError(f"expected tables of `evaluate` with {metric!r}, got columns {got}")
    left, right = (table.set_index(_KEYS).sort_index() for table in (first, second))
    if not left.index.equals(right.index) or not left.index.is_unique or left.empty:
        raise MetricError("expected the same images once in both tables: evaluate both models on the same role")
    rows = pd.DataFrame({"group": left["group"], "value": left[metric] - right[metric]}).reset_index()
    rng = np.random.default_rng(seed)
    points, drawn, groups = [], [], []
    for _, part in rows.groupby("dataset", sort=True):
        sums = part.groupby("group", sort=True)["value"].agg(["sum", "count"]).to_numpy(dtype=float)
        points.append(float(part["value"].mean()))
        drawn.append(_draws(sums[:, 0], sums[:, 1], draws, rng))
        groups.append(len(sums))
    low, high = np.quantile(np.mean(drawn, axis=0), [0.025, 0.975])
    return Difference(metric, float(np.mean(points)), float(low), float(high), min(groups))


def _draws(sums: np.ndarray, counts: np.ndarray, draws: int, rng: np.random.Generator) -> np.ndarray:
    """Means over images of groups drawn with replacement, (draws,)."""
    groups, means = len(sums), []
    for start in range(0, draws, max(1, _CHUNK // groups)):
        size = min(draws - start, max(1, _CHUNK // groups))
        weights = rng.multinomial(groups, np.full(groups, 1 / groups), size=size)
        means.append((weights @ sums) / (weights @ counts))
    return np.concatenate(means)
