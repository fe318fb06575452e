"""From the parts of a sweep to its figures, each with a bootstrap interval over groups of images."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.stats import rankdata

from ...._support.errors import ResultsError
from ....evaluation.intervals import interval
from ....evaluation.leverage import QUANTILE, Array, damage_density, leverage_ratio, paired_win_rate, specificity
from ....evaluation.pooled import histogram_quantile
from ...runner.store import read_arrays
from .steps import Step, paired_cells
from .sweep import BANDS, HEADLINE, METRICS, Cells

MOST_DRAWS = 2000
"""Bootstrap draws; each pools all pixels anew."""
DAMAGE = {"bf1": -1.0, "hd95_px": 1.0}
"""Metric to the sign that makes its change a damage."""
_CHUNK = 500  # draws at a time


@dataclass(frozen=True)
class Sampled:
    """Data set and group of each image of a sweep, and how the bootstrap draws them.

    `weights` is (1 + draws, images), how often each image counts; the first row is the data themselves.
    """

    datasets: Sequence[str]
    groups: Sequence[str]
    weights: Array

    @classmethod
    def of(cls, datasets: Sequence[str], groups: Sequence[str], draws: int, seed: int = 0) -> "Sampled":
        """Draw, within each data set, as many groups as it has, with replacement."""
        rng = np.random.default_rng(seed)
        sets, labels = np.asarray(datasets), np.asarray(groups)
        weights = np.ones((1 + draws, len(sets)))
        for name in dict.fromkeys(datasets):
            own = sets == name
            codes = np.unique(labels[own], return_inverse=True)[1]
            count = int(codes.max()) + 1
            weights[1:, own] = rng.multinomial(count, np.full(count, 1 / count), size=draws)[:, codes]
        return cls(list(datasets), list(groups), weights)

    def macro(self, values: Array) -> Array:
        """Macro averages, (rows of `weights`, n), of (n, images) values: mean of images, then of data sets."""
        means = []
        for name in dict.fromkeys(self.datasets):
            own = np.asarray(self.datasets) == name
            weights = self.weights[:, own]
            means.append(weights @ values[:, own].T / weights.sum(axis=1, keepdims=True))
        return np.asarray(np.mean(means, axis=0))

    def pooled_quantile(self, counts: npt.NDArray[Any], q: float) -> Array:
        """Quantiles, (rows of `weights`, n), of the pooled pixels; `counts` is (n, images, bins)."""
        found = np.empty((len(self.weights), len(counts)))
        for place, of_step in enumerate(counts):
            dense = of_step.astype(np.float32)
            for start in range(0, len(found), _CHUNK):
                rows = slice(start, start + _CHUNK)
                found[rows, place] = histogram_quantile(self.weights[rows].astype(np.float32) @ dense, q)
        return found


def _read(paths: Sequence[Path], cells: Cells, names: Sequence[str], axis: int) -> list[npt.NDArray[Any]]:
    """Read some arrays of all parts, joined along the images."""
    parts = [_part(path, cells, names) for path in paths]
    return [np.concatenate([part[name] for part in parts], axis=axis) for name in names]


def _datasets(paths: Sequence[Path], cells: Cells) -> list[str]:
    parts = [_part(path, cells, ["dataset", "names"]) for path in paths]
    return [str(part["dataset"]) for part in parts for _ in part["names"]]


def _part(path: Path, cells: Cells, names: Sequence[str]) -> dict[str, npt.NDArray[Any]]:
    found = read_arrays(path, cells.digest, names)
    if found is None:
        raise ResultsError(f"{path} is missing or damaged: delete it and run again")
    return found


def summarise_sweep(paths: Sequence[Path], cells: Cells, draws: int) -> dict[str, Any]:
    """Work out from a sweep's parts all that `analysis/leverage.json` holds; at most `MOST_DRAWS` draws."""
    (groups,) = _read(paths, cells, ["groups"], 0)
    drawn = Sampled.of(_datasets(paths, cells), [str(g) for g in groups], min(draws, MOST_DRAWS))
    steps = list(cells.saved)
    saved = np.array([cells.saved[step] for step in steps])
    moves = [cells.move_of(step) for step in steps]
    (in_image,) = _read(paths, cells, ["counts_image"], 1)
    region = drawn.pooled_quantile(in_image, QUANTILE)[:, moves] / saved
    rlr = _by_family(leverage_ratio, region, steps)
    of_bands, columns = {}, {"region_q95": region}
    for band in BANDS:
        found, own = _band(band, paths, cells, drawn, steps, rlr)
        of_bands[band] = found
        columns |= own
    metrics = dict(zip(METRICS, (drawn.macro(v) for v in _read(paths, cells, METRICS, 1)), strict=True))
    damage = {metric: _damage(metric, metrics, cells, steps) for metric in DAMAGE}
    columns |= {f"{metric}_damage": values / saved for metric, values in damage.items()}
    headline, once = columns[f"{HEADLINE}_q95"], _first_of_each(moves)
    return {
        "counts": _step_counts(cells, drawn),
        "bands": of_bands,
        "image": {"rlr": span(rlr), **_medians(region, steps)},
        "damage": {metric: _density(values, saved, steps) for metric, values in damage.items()},
        "agreement": {m: _rank_correlation(headline[:, once], columns[f"{m}_damage"][:, once]) for m in DAMAGE},
        "steps": [_step_row(place, step, cells, columns) for place, step in enumerate(steps)],
        "cells": [
            {"level": str(level), **{m: float(v[0, cells.place[level]]) for m, v in metrics.items()}}
            for level in cells.grid.levels
        ],
    }


def _band(
    band: str, paths: Sequence[Path], cells: Cells, drawn: Sampled, steps: Sequence[Step], rlr: Array
) -> tuple[dict[str, Any], dict[str, Array]]:
    names = [f"{kind}_{band}" for kind in ("counts", "sums", "flat")]
    counts, sums, flat = _read(paths, cells, names, 1)
    saved = np.array([cells.saved[step] for step in steps])
    moves = [cells.move_of(step) for step in steps]
    pixels = counts.sum(axis=-1)
    quantiles = drawn.pooled_quantile(counts, QUANTILE)[:, moves] / saved
    means = ((drawn.weights @ sums.T) / (drawn.weights @ pixels.T))[:, moves] / saved
    blr = _by_family(leverage_ratio, quantiles, steps)
    once = _first_of_each(moves)
    found = {
        "blr": span(blr),
        "blr_mean": span(_by_family(leverage_ratio, means, steps)),
        "blr_distinct": span(_by_family(leverage_ratio, quantiles[:, once], [steps[i] for i in once])),
        "bsr": span(specificity(blr, rlr)),
        "win_rate": span(_wins(quantiles, steps)),
        "paired_ratio": span(_paired_ratio(quantiles, steps)),
        "below_epsilon": float(flat[moves].sum() / pixels[moves].sum()),
        **_medians(quantiles, steps),
    }
    return found, {f"{band}_q95": quantiles, f"{band}_mean": means}


def _first_of_each(moves: Sequence[int]) -> list[int]:
    """Places of the steps without those that repeat another one between the same plans."""
    return [place for place, move in enumerate(moves) if move not in moves[:place]]


def _places(steps: Sequence[Step], family: str) -> list[int]:
    return [place for place, step in enumerate(steps) if step.family == family]


def _by_family(rule: Callable[[Array, Array], Array], values: Array, steps: Sequence[Step]) -> Array:
    return rule(values[:, _places(steps, "heads")], values[:, _places(steps, "neurons")])


def _medians(values: Array, steps: Sequence[Step]) -> dict[str, Any]:
    return {f: span(np.median(values[:, _places(steps, f)], axis=1)) for f in ("heads", "neurons")}


def _pairs(steps: Sequence[Step]) -> list[tuple[int, int]]:
    """Places of the head step and the MLP step of every paired cell, each within its family."""
    of_heads, of_neurons = ([s for s in steps if s.family == family] for family in ("heads", "neurons"))
    return [(of_heads.index(head), of_neurons.index(neuron)) for head, neuron in paired_cells(steps)]


def _wins(values: Array, steps: Sequence[Step]) -> Array:
    pairs = _pairs(steps)
    return _by_family(lambda heads, neurons: paired_win_rate(heads, neurons, pairs), values, steps)


def _paired_ratio(values: Array, steps: Sequence[Step]) -> Array:
    pairs = _pairs(steps)
    if not pairs:
        return np.full(len(values), np.nan)
    first, second = (list(places) for places in zip(*pairs, strict=True))
    return _by_family(lambda heads, neurons: np.median(heads[:, first] / neurons[:, second], axis=1), values, steps)


def _damage(metric: str, metrics: Mapping[str, Array], cells: Cells, steps: Sequence[Step]) -> Array:
    """(1 + draws, steps): how much worse the macro average is after each step."""
    values = metrics[metric]
    change = values[:, [cells.place[s.stop] for s in steps]] - values[:, [cells.place[s.start] for s in steps]]
    return np.asarray(DAMAGE[metric] * change)


def _density(damage: Array, saved: Array, steps: Sequence[Step]) -> dict[str, Any]:
    """Damage densities over all valid steps, and under `paired` over those from paired cells alone."""
    own = {family: _places(steps, family) for family in ("heads", "neurons")}
    pairs = _pairs(steps)
    paired = {f: [places[pair[side]] for pair in pairs] for side, (f, places) in enumerate(own.items())}
    return {**_densities(damage, saved, own), "paired": _densities(damage, saved, paired)}


def _densities(damage: Array, saved: Array, places: Mapping[str, list[int]]) -> dict[str, Any]:
    if not all(places.values()):
        nothing = np.full(len(damage), np.nan)
        return {name: span(nothing) for name in (*places, "ratio")}
    found = {family: damage_density(damage[:, own], saved[own]) for family, own in places.items()}
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = found["heads"] / found["neurons"]
    return {**{family: span(values) for family, values in found.items()}, "ratio": span(ratio)}


def _rank_correlation(leverage: Array, damage: Array) -> dict[str, Any]:
    """Spearman's correlation over distinct steps, each draw ranked anew."""
    ranks = [rankdata(values, axis=1) for values in (leverage, damage)]
    centred = [r - r.mean(axis=1, keepdims=True) for r in ranks]
    products = (centred[0] * centred[1]).sum(axis=1)
    return span(products / np.sqrt((centred[0] ** 2).sum(axis=1) * (centred[1] ** 2).sum(axis=1)))


def _step_counts(cells: Cells, drawn: Sampled) -> dict[str, Any]:
    steps = list(cells.saved)
    distinct = [steps[place] for place in _first_of_each([cells.move_of(step) for step in steps])]
    pairs = set(zip(drawn.datasets, drawn.groups, strict=True))
    return {
        "cells": len(cells.plans),
        "plans": len(cells.distinct),
        "heads": len(_places(steps, "heads")),
        "neurons": len(_places(steps, "neurons")),
        "heads_distinct": len(_places(distinct, "heads")),
        "neurons_distinct": len(_places(distinct, "neurons")),
        "paired": len(paired_cells(steps)),
        "returning": sum(cells.returning(step) for step in distinct),
        "images": len(drawn.groups),
        "groups": {name: sum(pair[0] == name for pair in pairs) for name in dict.fromkeys(drawn.datasets)},
        "draws": len(drawn.weights) - 1,
    }


def _step_row(place: int, step: Step, cells: Cells, columns: Mapping[str, Array]) -> dict[str, Any]:
    row: dict[str, Any] = {
        "family": step.family,
        "start": str(step.start),
        "stop": str(step.stop),
        "saved_percent": cells.saved[step],
        "move": cells.move_of(step),
        "returning": cells.returning(step),
    }
    for name, values in columns.items():
        found = span(values[:, place])
        row |= {name: found["value"], f"{name}_low": found["low"], f"{name}_high": found["high"]}
    return row


def span(values: Array) -> dict[str, float | None]:
    """The estimate and its interval, as JSON takes them: None for what is no number."""
    finite = values[1:][np.isfinite(values[1:])]
    found = asdict(interval(float(values[0]), finite if len(finite) else np.array([np.nan])))
    return {name: float(value) if np.isfinite(value) else None for name, value in found.items()}
