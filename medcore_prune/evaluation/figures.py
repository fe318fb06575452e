"""What an evaluation measured of one model, as a record that goes on: averages with intervals, on which images."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pandas as pd

from .._support.errors import MetricError
from .._support.files import read_json_file
from .._support.records import Flag, Number, Record, RecordError, Whole, matching
from .intervals import Bootstrap, interval
from .metrics import TITLES

FILE_NAME = "figures.json"
_FORMAT = "medcore_prune.figures/1"


@dataclass(frozen=True)
class Figure(Record, closed=True):
    """An average over data sets, with its 95 % bootstrap interval over groups of images."""

    value: Number
    low: Number
    high: Number


@dataclass(frozen=True)
class ImagesOf(Record, closed=True):
    """Images of a data set: how many, the hash over them, and the groups that they hang together in."""

    images: Whole
    sha256: Annotated[str, matching("[0-9a-f]{64}", "SHA-256")]
    groups: Whole


@dataclass(frozen=True)
class Figures(Record, format=_FORMAT):
    """What was measured of a model.

    Attributes:
        model_hash: Of the model.
        role: Which images of the split: `test`, `validation`, `train` or `all`.
        grid: Side of the grid that masks were compared on, or `original`.
        tolerance_px: Of Boundary F1, in pixels of the 256 grid.
        phantoms: Whether images among them were drawn by this package.
        images: Data set to its images.
        metrics: Name in `metrics.TITLES` to what was measured.
        floors: Name of a floor, an answer without a model, to its averages on the same images.
    """

    model_hash: Annotated[str, matching("[0-9a-f]{64}", "SHA-256")]
    role: str
    grid: str
    tolerance_px: Number
    phantoms: Flag
    images: Mapping[str, ImagesOf]
    metrics: Mapping[str, Figure]
    floors: Mapping[str, Mapping[str, Number]]


def averages(table: pd.DataFrame) -> dict[str, Figure]:
    """Average a table of `evaluate` over data sets, with 95 % bootstrap intervals; what is not known is left out."""
    by_set = {str(name): part for name, part in table.groupby("dataset", sort=True)}
    bootstrap = Bootstrap({name: list(part["group"]) for name, part in by_set.items()}, draws=2000)
    found = {}
    for metric in TITLES:
        value, drawn = bootstrap.macro({name: part[metric].to_numpy(np.float64) for name, part in by_set.items()})
        if math.isfinite(value):
            measured = interval(value, drawn)
            found[metric] = Figure(measured.value, measured.low, measured.high)
    return found


def images_of(table: pd.DataFrame, hashes: Mapping[str, str]) -> dict[str, ImagesOf]:
    """Say which images a table of `evaluate` is of; `hashes` has that over the images of each data set."""
    return {
        str(name): ImagesOf(len(part), hashes[str(name)], part["group"].astype(str).nunique())
        for name, part in table.groupby("dataset", sort=True)
    }


def figures_json(found: Sequence[Figures]) -> list[dict[str, Any]]:
    """Values of several models' figures for one file, as `read_figures` reads them."""
    return [each.values() for each in found]


def read_figures(path: str | Path, model_hash: str) -> Figures:
    """Read what an evaluation measured of one model.

    Args:
        path: `figures.json`, or the folder that `medcore-prune evaluate --out` wrote it to.
        model_hash: Of the model.

    Returns:
        Its figures.

    Raises:
        MetricError: There is no such file, it is damaged, or it is not of this model.
    """
    place = Path(path) / FILE_NAME if Path(path).is_dir() else Path(path)
    try:
        values = read_json_file(place)
        found = [Figures.of(each, "the figures") for each in values] if isinstance(values, list) else []
    except (OSError, ValueError, RecordError) as error:
        raise MetricError(f"{place}: expected the figures that an evaluation wrote: {str(error)[:200]}") from error
    for each in found:
        if each.model_hash == model_hash:
            return each
    raise MetricError(
        f"{place} holds no figures of the model {model_hash[:12]}, but of "
        f"{', '.join(each.model_hash[:12] for each in found) or 'none'}: evaluate this file"
    )
