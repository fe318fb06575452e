"""The figures of the tables: macro averages, intervals, differences, ranks (METHOD section 10)."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, TypeAlias

import numpy as np

from ..._support.errors import ResultsError
from ...evaluation.intervals import (
    NOT_SIGNIFICANT,
    TOO_FEW_GROUPS,
    Array,
    Bootstrap,
    Interval,
    holm,
    interval,
    p_value,
    verdict,
)
from ...evaluation.metrics import HIGHER_IS_BETTER
from ...pruning.level import Level
from ..runner.methods import table_order
from ..runner.settings import MODES
from ..runner.store import NO_LEVEL, UNPRUNED, CellResult, Evaluation, ResultStore

MORE_METRICS = {"bf1_1px": True, "bf1_3px": True, "hd95_percent": False}
"""Shown in the CSV file besides."""
METRICS = HIGHER_IS_BETTER | MORE_METRICS
FLOOR_PREFIX = "floor_"
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
    """One method at one level, the mean of some seeds: macro averages, and the means of each data set.

    `cost` holds shares removed and what is left, averaged over seeds; `below_floor` the metrics in which a floor is
    better, `below_floor_on` those of each data set; `empty` counts images where one mask, or both, are empty, over all
    seeds.
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

    @property
    def place(self) -> Place:
        """Where it stands."""
        return self.mode, self.level, self.method


@dataclass(frozen=True)
class Difference:
    """The subject minus another method, `method`, paired.

    `p` is the two-sided bootstrap p, `p_holm` corrected over the methods of a mode, level and metric; `groups` the
    fewest of a data set.
    """

    mode: str
    level: str
    method: str
    metric: str
    value: Interval
    p: float
    p_holm: float
    groups: int

    @property
    def significant(self) -> bool:
        """Whether there are groups enough, the interval excludes 0, and the corrected p is small."""
        return self.verdict not in (TOO_FEW_GROUPS, NOT_SIGNIFICANT)

    @property
    def verdict(self) -> str:
        """What `intervals.verdict` says of the subject, where the corrected p is small as well."""
        said = verdict(self.value.low, self.value.high, self.groups, higher_is_better=METRICS[self.metric])
        return said if said == TOO_FEW_GROUPS or self.p_holm < SIGNIFICANT else NOT_SIGNIFICANT


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
        differences, ranks: Of the subject, the method that is compared with each other one.
        groups, images: Data set to its number of either.
        indicative: Data sets with too few groups.
        incomplete: Rows left out because a data set is missing.
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

    def alike(self, one: Row, other: Row, metric: str = "bf1") -> bool:
        """Whether two rows cannot be told apart: the interval of their difference holds 0; that pair by itself."""
        difference = self.paired(one.place, other.place, metric)
        return one is other or difference is None or difference.holds_zero

    def verdict(self, difference: Interval, metric: str = "bf1") -> str:
        """What the interval of a difference says, for itself: not corrected for several comparisons."""
        fewest = min(self.groups.values(), default=0)
        return verdict(difference.low, difference.high, fewest, higher_is_better=METRICS[metric])

    def row(self, place: Place) -> Row | None:
        """The row of a mode, level and method, if there is one."""
        return next((row for row in self.rows if row.place == place), None)

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


def summarise(store: ResultStore, subject: str | None = None, datasets: Collection[str] | None = None) -> Summary:
    """Read all cells of a run and work out its tables, averaged over some data sets or all.

    `subject`, the method that is compared with each other one, is by default the run's own. A file that is damaged or
    foreign is a `ResultsError`.
    """
    run = store.run
    subject = subject or str(run.get("subject", "medcore"))
    cells = [cell for cell in store.cells() if datasets is None or cell.cell.dataset in datasets]
    evaluations = _evaluations(store, cells)
    by_place = _by_place(cells)
    names = sorted({cell.cell.dataset for cell in cells})
    complete = {place: found for place, found in by_place.items() if _is_complete(found, names)}
    labels = {name: _any(complete, name, evaluations) for name in names} if complete else {}
    calibrated = {
        name
        for name, about in run.get("methods", {}).items()
        if about.get("calibrated") and not about.get("stochastic")
    }
    draws = max((len(c) for p, f in complete.items() for c in f.values() if p[2] in calibrated), default=1)
    groups = {name: list(evaluation.images["group"]) for name, evaluation in labels.items()}
    bootstrap = Bootstrap(groups, seeds=draws, draws=int(run.get("draws", 5000)))
    drawn = {place: _draw(found, evaluations, bootstrap, place[2] in calibrated) for place, found in complete.items()}
    modes = dict(run.get("modes") or MODES)
    if strange := sorted({place[0] for place in complete} - {"any", *modes}):
        raise ResultsError(f"{store.root} holds results of the mode {strange[0]!r}, which its run does not have")
    order = _order(complete, list(modes), run.get("methods", {}), subject)
    floors = [place for place in order if place[2].startswith(FLOOR_PREFIX)]
    means = {place: _by_dataset(found) for place, found in complete.items()}
    rows = [
        _row(place, complete[place], drawn[place], means[place], [(drawn[f].points, means[f]) for f in floors])
        for place in order
    ]
    return Summary(
        rows=rows,
        differences=_differences(drawn, order, subject, min(bootstrap.groups.values(), default=0)),
        ranks=_ranks(drawn, order, subject),
        subject=subject,
        groups=bootstrap.groups,
        images={name: len(evaluation.images) for name, evaluation in labels.items()},
        indicative=bootstrap.indicative,
        incomplete=[place for place in by_place if place not in complete],
        calibration_draws=draws,
        notice=str(run.get("notice", "")),
        tolerance_px=float(run.get("identity", {}).get("tolerance_px", 2.0)),
        modes={mode: title for mode, title in modes.items() if any(place[0] == mode for place in complete)},
        drawn=drawn,
    )


_Found: TypeAlias = dict[str, list[CellResult]]


def _by_place(cells: Sequence[CellResult]) -> dict[Place, _Found]:
    places: dict[Place, _Found] = {}
    for result in sorted(cells, key=lambda r: r.cell.seed):
        cell = result.cell
        places.setdefault((cell.mode, cell.level, cell.method), {}).setdefault(cell.dataset, []).append(result)
    return places


def _is_complete(found: _Found, datasets: Sequence[str]) -> bool:
    """Whether every data set has results, under the same seeds."""
    seeds = {tuple(result.cell.seed for result in of_set) for of_set in found.values()}
    return set(found) == set(datasets) and len(seeds) == 1


def _evaluations(store: ResultStore, cells: Sequence[CellResult]) -> dict[str, Evaluation]:
    found = {}
    for result in cells:
        if result.evaluation not in found:
            evaluation = store.evaluation(result.evaluation)
            if evaluation is None:
                raise ResultsError(f"the per-image metrics of {store.root / result.cell.path} are gone: run again")
            found[result.evaluation] = evaluation
    return found


def _any(complete: Mapping[Place, _Found], dataset: str, evaluations: Mapping[str, Evaluation]) -> Evaluation:
    return evaluations[next(iter(complete.values()))[dataset][0].evaluation]


def _draw(found: _Found, evaluations: Mapping[str, Evaluation], bootstrap: Bootstrap, nested: bool) -> Drawn:
    points, draws = {}, {}
    for metric in METRICS:
        values: dict[str, Array] = {}
        for dataset, results in found.items():
            rows = np.stack([evaluations[r.evaluation].images[metric].to_numpy(np.float64) for r in results])
            # seeds of a stochastic method count as their mean; calibration draws are themselves drawn from
            values[dataset] = rows if nested and len(rows) == bootstrap.seeds else rows.mean(axis=0)
        points[metric], draws[metric] = bootstrap.macro(values)
    return Drawn(points, draws)


_Means: TypeAlias = dict[str, dict[str, float]]


def _by_dataset(found: _Found) -> _Means:
    """Data set to the means of its metrics, over seeds too."""
    return {
        name: {m: float(np.mean([r.metrics[m] for r in of_set])) for m in METRICS} for name, of_set in found.items()
    }


def _below(own: Mapping[str, float], floors: Sequence[Mapping[str, float]]) -> frozenset[str]:
    return frozenset(
        metric
        for metric, higher in METRICS.items()
        if any(_worse(own[metric], floor[metric], higher) for floor in floors)
    )


def _row(
    place: Place, found: _Found, drawn: Drawn, means: _Means, floors: Sequence[tuple[Mapping[str, float], _Means]]
) -> Row:
    mode, level, method = place
    results = [result for of_set in found.values() for result in of_set]
    if method.startswith(FLOOR_PREFIX):
        floors = []
    return Row(
        mode,
        level,
        method,
        {metric: interval(drawn.points[metric], drawn.draws[metric]) for metric in METRICS},
        means,
        {key: float(np.mean([result.cost[key] for result in results])) for key in results[0].cost},
        _below(drawn.points, [points for points, _ in floors]),
        {name: _below(own, [of_floor[name] for _, of_floor in floors]) for name, own in means.items()},
        {kind: sum(result.empty.get(kind, 0) for result in results) for kind in ("one", "both")},
        max(len(of_set) for of_set in found.values()),
    )


def _worse(value: float, other: float, higher_is_better: bool) -> bool:
    return value < other if higher_is_better else value > other


def _order(
    places: Mapping[Place, _Found], modes: Sequence[str], methods: Mapping[str, Mapping[str, Any]], subject: str
) -> list[Place]:
    """Floors and unpruned model, then modes, levels, methods as the run ordered them, the subject last."""
    of_modes = ["any", *modes]

    def key(row: Place) -> tuple[Any, ...]:
        mode, level, method = row
        asked = (0.0, 0.0) if level == NO_LEVEL else (Level.parse(level).heads, Level.parse(level).neurons)
        return of_modes.index(mode), asked, method == UNPRUNED, table_order(method, methods.get(method, {}), subject)

    return sorted(places, key=key)


def _differences(drawn: Mapping[Place, Drawn], order: Sequence[Place], subject: str, groups: int) -> list[Difference]:
    found: list[Difference] = []
    for mode, level in dict.fromkeys(place[:2] for place in order if place[1] != NO_LEVEL):
        own = drawn.get((mode, level, subject))
        others = [place for place in order if place[:2] == (mode, level) and place[2] != subject]
        if own is None:
            continue
        for metric in HIGHER_IS_BETTER:
            paired = {place: own.draws[metric] - drawn[place].draws[metric] for place in others}
            p = [p_value(values) for values in paired.values()]
            for (place, values), raw, corrected in zip(paired.items(), p, holm(p), strict=True):
                point = own.points[metric] - drawn[place].points[metric]
                found.append(Difference(mode, level, place[2], metric, interval(point, values), raw, corrected, groups))
    return found


def _ranks(drawn: Mapping[Place, Drawn], order: Sequence[Place], subject: str) -> list[Rank]:
    ranks = []
    for mode, level in dict.fromkeys(place[:2] for place in order if place[1] != NO_LEVEL):
        peers = [place for place in order if place[:2] == (mode, level)]
        if (mode, level, subject) not in drawn:
            continue
        own = drawn[mode, level, subject]
        for metric, higher in HIGHER_IS_BETTER.items():
            better = sum(_worse(own.points[metric], drawn[peer].points[metric], higher) for peer in peers)
            ranks.append(Rank(mode, level, metric, better + 1, len(peers)))
    return ranks
