"""How sure an average or a difference is: bootstrap over groups of images, Holm's correction (METHOD section 10)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import pandas as pd

from .._support.errors import MetricError

Array: TypeAlias = npt.NDArray[np.float64]

CONFIDENCE = 0.95
INDICATIVE_BELOW = 10
"""With fewer groups than this an interval is called indicative, and a difference gets no verdict."""


@dataclass(frozen=True)
class Interval:
    """A point estimate on the data themselves with its percentile interval of the bootstrap draws."""

    value: float
    low: float
    high: float

    @property
    def holds_zero(self) -> bool:
        """Whether 0 lies within, so that a difference is not significant; NaN bounds leave that open."""
        return not (self.low > 0 or self.high < 0)


class Bootstrap:
    """Draws of the macro average of per-image values, the same draws for every method, so that differences are paired.

    A draw takes, within each data set, as many groups of images as there are, with replacement, and averages their
    images; the macro average is the mean over data sets. With several calibration samples it also draws, with
    replacement and once for all data sets, which of them are averaged (nested bootstrap).

    Args:
        groups: Data set to the group of each image, in order; labels that are written alike are one group. An image
            that stands alone has a group of its own: how one without a group hangs together with others is not known.
        seeds: Number of calibration samples that results exist for.
        draws: Number of bootstrap draws.
        seed: Of the draws.
    """

    def __init__(
        self, groups: Mapping[str, Sequence[str]], *, seeds: int = 1, draws: int = 5000, seed: int = 0
    ) -> None:
        rng = np.random.default_rng(seed)
        self.draws, self.seeds = draws, seeds
        self.groups = dict.fromkeys(groups, 0)
        self._codes: dict[str, npt.NDArray[np.intp]] = {}
        self._weights: dict[str, Array] = {}
        self._sizes: dict[str, Array] = {}
        for name in sorted(groups):
            labels = _labels(name, groups[name])
            codes = np.unique(labels, return_inverse=True)[1]
            self.groups[name] = count = len(set(labels))
            weights = rng.multinomial(count, np.full(count, 1 / count), size=draws).astype(np.float64)
            self._codes[name], self._weights[name] = codes, weights
            self._sizes[name] = weights @ np.bincount(codes, minlength=count)
        drawn = rng.multinomial(seeds, np.full(seeds, 1 / seeds), size=draws)
        self._seed_weights: Array = drawn / seeds

    @property
    def indicative(self) -> list[str]:
        """Data sets with too few groups for an interval to be more than indicative."""
        return [name for name, count in self.groups.items() if count < INDICATIVE_BELOW]

    def macro(self, values: Mapping[str, Array]) -> tuple[float, Array]:
        """Average over images, then over data sets: on the data themselves, and once a draw, (draws,).

        Values are (images,), or (seeds, images) where results differ with the calibration sample.
        """
        points, drawn = [], []
        for name, given in values.items():
            rows = np.atleast_2d(np.asarray(given, dtype=np.float64))
            codes, weights = self._codes[name], self._weights[name]
            sums = np.stack([np.bincount(codes, row, minlength=self.groups[name]) for row in rows])
            means = (weights @ sums.T) / self._sizes[name][:, None]  # (draws, seeds)
            seed_weights = self._seed_weights if len(rows) > 1 else np.ones((self.draws, 1))
            drawn.append((means * seed_weights).sum(axis=1))
            points.append(float(rows.mean()))
        return float(np.mean(points)), np.mean(drawn, axis=0)


def _labels(name: str, groups: Sequence[object]) -> list[str]:
    if len(missing := np.flatnonzero(pd.Series(list(groups), dtype=object).isna())):
        raise MetricError(
            f"{len(missing)} of {len(groups)} images of {name} have no group, image {missing[0]} first: expected a "
            "group for each; give one that stands alone its own name"
        )
    return list(map(str, groups))


def paired_error(differences: Mapping[str, Array], groups: Mapping[str, Sequence[str]]) -> float:
    """Standard error of the macro average of paired differences, images of one group counted together.

        sqrt(sum_k e_k^2) / K,   e_k^2 = G/(G-1) sum_g (sum_{i in g} (d_i - mean d))^2 / n^2     for K sets, G groups

    Args:
        differences: Data set to the difference of each image, (n,).
        groups: Data set to the group of each image.

    Returns:
        The error, which many draws of a `Bootstrap` deviate by as well; 1 without a set, or where a set has one group.
    """
    squares = []
    for name, values in differences.items():
        labels, codes = np.unique(list(map(str, groups[name])), return_inverse=True)
        if len(labels) < 2:
            return 1.0
        sums = np.bincount(codes, np.asarray(values) - np.mean(values))
        squares.append(len(labels) / (len(labels) - 1) * float(np.square(sums).sum()) / len(values) ** 2)
    return float(np.sqrt(sum(squares))) / len(squares) if squares else 1.0


def interval(value: float, draws: Array, confidence: float = CONFIDENCE) -> Interval:
    """Percentile interval of bootstrap draws around an estimate."""
    tail = (1 - confidence) / 2
    low, high = np.quantile(draws, [tail, 1 - tail])
    return Interval(value, float(low), float(high))


def p_value(differences: Array) -> float:
    """Two-sided bootstrap p of "there is no difference": twice the smaller share of draws on either side of 0.

    Each side counts one draw more than it has, so that no finite number of draws gives p = 0.
    """
    below, above = np.count_nonzero(differences <= 0), np.count_nonzero(differences >= 0)
    return min(1.0, 2 * (1 + min(below, above)) / (1 + differences.size))


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjust p-values of one family of comparisons by Holm's step-down rule.

    The k-th smallest of m (k from 0) is multiplied by m - k; adjusted values never fall along that order and never
    exceed 1 (Holm 1979).
    """
    adjusted = [0.0] * len(p_values)
    highest = 0.0
    for rank, index in enumerate(sorted(range(len(p_values)), key=lambda i: p_values[i])):
        highest = max(highest, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = highest
    return adjusted


_KEYS = ["dataset", "name"]


@dataclass(frozen=True)
class Difference(Interval):
    """A paired difference of two macro averages with its 95 % interval, and the fewest groups of a data set."""

    groups: int


TOO_FEW_GROUPS, NOT_SIGNIFICANT = "too few groups", "not significant"
"""Verdicts that are none."""


def verdict(low: float, high: float, groups: int, *, higher_is_better: bool) -> str:
    """Say what the interval of a difference means for the first of the two that are compared.

    Args:
        low, high: Ends of the interval of first minus second.
        groups: Independent groups of images behind it, of the data set that has the fewest.
        higher_is_better: Of the metric.

    Returns:
        `better` or `worse` where 0 lies outside, else `not significant`; with fewer groups than `INDICATIVE_BELOW` none
        of them: a bootstrap over so few groups says little, and over one nothing.
    """
    if groups < INDICATIVE_BELOW:
        return TOO_FEW_GROUPS
    if not (low > 0 or high < 0):
        return NOT_SIGNIFICANT
    return "better" if (low > 0) == higher_is_better else "worse"


def paired_difference(
    first: pd.DataFrame, second: pd.DataFrame, metric: str, *, draws: int = 2000, seed: int = 0
) -> Difference:
    """Compare two tables of `evaluate` over the same images, first minus second, by a metric's column."""
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
    return Difference(found.value, found.low, found.high, min(bootstrap.groups.values()))
