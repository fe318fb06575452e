"""How good what a command made is: on validation images, beside answers that use no model."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pandas as pd
from torch import nn

from ....data.samples import SampleSet, at_most
from ....evaluation.evaluate import macro_average
from ....evaluation.floors import FLOORS
from ....evaluation.intervals import Difference, paired_difference
from ....evaluation.metrics import TITLES
from ..table import Table
from .measured import Tables, evaluate_all

METRICS = ("dice", "bf1")
GRID, TOLERANCE_PX = 256, 2.0
"""What `medcore-prune evaluate` compares masks on by default."""
FLOOR_TITLES = {"ellipse": "the ellipse in the box", "box": "the filled box"}
"""What commands call the floors, by their names."""
assert set(FLOOR_TITLES) == set(FLOORS)


@dataclass(frozen=True)
class Judged:
    """Macro averages over data sets of models and floors on the same validation images.

    Attributes:
        images: How many of each data set.
        of: How many each data set has.
        means: Name of a model to `METRICS`.
        floors: Name in `FLOORS` to `METRICS`.
        notes: What is to be said of the images.
        tables: Name of a model to its figures image by image, of those that were run for them.
    """

    images: Mapping[str, int]
    of: Mapping[str, int]
    means: Mapping[str, Mapping[str, float]]
    floors: Mapping[str, Mapping[str, float]]
    notes: tuple[str, ...]
    tables: Mapping[str, pd.DataFrame] = field(default_factory=dict, repr=False)

    @property
    def what(self) -> str:
        """Say which images, as `18 validation images`, and of how many where they are not all."""
        count, all_of = sum(self.images.values()), sum(self.of.values())
        number = str(count) if count == all_of else f"{count} of {all_of}"
        return f"{number} validation image{'s' * (all_of != 1)}"

    def table(self) -> Table:
        """Models and floors, a row each."""
        rows = {**self.means, **{FLOOR_TITLES[name]: self.floors[name] for name in FLOOR_TITLES}}
        cells = [[name, *(f"{values[metric]:.4f}" for metric in METRICS)] for name, values in rows.items()]
        return Table([self.what, *(TITLES[metric] for metric in METRICS)], cells)

    def below(self, model: str) -> str:
        """Say in which figures a model is no better than a floor, and than which; "" where it is in all."""
        said = []
        for metric in METRICS:
            best = max(FLOOR_TITLES, key=lambda name: self.floors[name][metric])
            # NaN is above nothing
            if not self.means[model][metric] > self.floors[best][metric]:
                said.append(f"{TITLES[metric]}: {FLOOR_TITLES[best]}")
        return "; ".join(said)

    def gain(self, model: str, before: str) -> Difference:
        """Boundary F1 of a model minus that of another one on the same images."""
        return paired_difference(self.tables[model], self.tables[before], "bf1")

    def record(self) -> dict[str, Any]:
        """All of it, as JSON."""
        floors = {name: dict(values) for name, values in self.floors.items()}
        models = {name: dict(values) for name, values in self.means.items()}
        return {"images": dict(self.images), "models": models, "floors": floors}


def judge(
    models: Mapping[str, nn.Module],
    validation: Mapping[str, SampleSet],
    at_a_time: int,
    most: int | None = None,
    known: Mapping[str, Mapping[str, float]] | None = None,
) -> Judged | None:
    """Evaluate models on validation images, at most so many of each data set; None where there are none.

    Args:
        models: By the name that tables show.
        validation: Data set to its validation images, which no model was trained on.
        at_a_time: Images a forward pass.
        most: Images of each set, all by default.
        known: Means on these images, by the names of models that were evaluated on them already, which are not run.
    """
    known = known or {}
    sets = {name: samples for name, samples in validation.items() if len(samples)}
    if not sets:
        return None
    chosen = {name: samples if most is None else at_most(samples, most) for name, samples in sets.items()}
    notes: list[str] = []
    sizes = dict.fromkeys(models, at_a_time)
    tables = evaluate_all(models, chosen, GRID, TOLERANCE_PX, sizes, notes, without=known)
    found = judged_by(tables, _counts(chosen), _counts(sets), notes)
    means = {name: {metric: known[name][metric] for metric in METRICS} for name in models if name in known}
    return replace(found, means={name: means.get(name) or found.means[name] for name in models})


def judged_by(tables: Tables, images: Mapping[str, int], of: Mapping[str, int], notes: Sequence[str]) -> Judged:
    """Judge by tables of `evaluate_all`; `images` of each data set, `of` so many, and what is to be said of them."""
    floors = {name: _means(tables[f"floor: {name}"]) for name in FLOORS}
    models = {name: table for name, table in tables.items() if not name.startswith("floor: ")}
    means = {name: _means(table) for name, table in models.items()}
    return Judged(images, of, means, floors, tuple(notes), models)


def _counts(sets: Mapping[str, SampleSet]) -> dict[str, int]:
    return {name: len(samples) for name, samples in sets.items()}


def _means(table: pd.DataFrame) -> dict[str, float]:
    return {str(name): float(value) for name, value in macro_average(table, METRICS).items()}
