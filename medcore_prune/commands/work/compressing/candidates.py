"""How much goes: candidates that are cut and corrected, and judged by the contour on validation images."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import click
import pandas as pd
from torch import nn

from ...._support.errors import DataError, MedcorePruneError
from ...._support.files import write_text_atomic
from ....checkpoints.pruned import save
from ....data.csv_table import csv_text, read_written
from ....data.splits.split import Split
from ....evaluation.evaluate import macro_average, predict, score
from ....evaluation.images import EvaluationSet
from ....evaluation.intervals import INDICATIVE_BELOW, Difference, paired_difference
from ....evaluation.metrics import TEXTS
from ....models.families import geometry_of
from ....pruning.cost import count
from ....pruning.level import Level
from ....pruning.target import Target
from ..inputs import read_model
from ..planning import PruneSettings
from ..pruning import history_of, run_pruning

TENTHS = range(1, 10)
"""Levels that are tried where none is asked for: so many tenths of the heads and of the neurons of every block."""


@dataclass(frozen=True)
class Candidate:
    """A cut and corrected model, and its contours of the validation images minus the whole model's."""

    name: str
    model: nn.Module
    lost: Difference
    table: pd.DataFrame


class Candidates:
    """Makes and judges candidates of a model; what an earlier run left in the folder is taken from there.

    Args:
        whole: The model that is cut.
        roles: Training images for cutting, validation images for judging.
        settings: How cuts are made, all but the level.
        folder: Where candidates are kept.
        at_a_time: Images a forward pass.
    """

    def __init__(self, whole: nn.Module, roles: Split, settings: PruneSettings, folder: Path, at_a_time: int) -> None:
        self._sets = [samples for samples in roles.validation.values() if len(samples)]
        if not self._sets:
            raise DataError("there is no validation image to judge contours on: give that part a larger share")
        self._whole, self._roles, self._settings, self._folder = whole, roles, settings, folder
        self._at_a_time = at_a_time
        self._truth = self._judged("whole", whole)
        self._made: dict[str, Candidate] = {}

    def of(self, goal: Level | Target) -> Candidate:
        """Cut to a level or target, correct, and judge."""
        name = _name(goal)
        if name not in self._made:
            place = self._folder / f"{name}.safetensors"
            if not place.is_file():
                self._cut(goal, place)
            small = read_model(str(place), device=str(next(self._whole.parameters()).device))
            table = self._judged(name, small)
            found = Candidate(name, small, paired_difference(table, self._truth, "bf1"), table)
            self._made[name] = found
            self._say(found)
        return self._made[name]

    def smallest_within(self, loss: float) -> Candidate:
        """Return the smallest model whose Boundary F1 is at most so much below the whole model's, by bisection.

        Raises:
            MedcorePruneError: None is; the message says what the mildest loses.
        """
        found = bisect(len(TENTHS), lambda place: self.of(_tenths(place)).lost.value >= -loss)
        if found is None:
            mildest = self.of(_tenths(0))
            raise MedcorePruneError(
                f"no model keeps Boundary F1 within {loss:g}: with a tenth gone {-mildest.lost.value:.4f} is lost; "
                "allow more, name a level, or give more training images"
            )
        return self.of(_tenths(found))

    def _cut(self, goal: Level | Target, place: Path) -> None:
        level, target = (goal, None) if isinstance(goal, Level) else (None, goal)
        done = run_pruning(self._whole, None, self._roles, replace(self._settings, level=level, target=target))
        save(done.model, place, provenance=history_of(self._whole, done.record))

    def _judged(self, name: str, model: nn.Module) -> pd.DataFrame:
        place = self._folder / f"{name}.validation.csv"
        if not place.is_file():
            frame = geometry_of(model).frame
            ready = [EvaluationSet(samples, frame, kept_bytes=0) for samples in self._sets]
            masks = [predict(model, images, batch_size=self._at_a_time, progress=True) for images in ready]
            tables = [score(each, images) for each, images in zip(masks, ready, strict=True)]
            write_text_atomic(place, csv_text(pd.concat(tables, ignore_index=True)))
        return read_written(place, TEXTS)

    def _say(self, found: Candidate) -> None:
        cost, dense = count(found.model), count(self._whole)
        bf1 = macro_average(found.table, ("bf1",))["bf1"]
        lost = f"{found.lost.value:+.4f} [{found.lost.low:+.4f}, {found.lost.high:+.4f}] to the whole model"
        if found.lost.groups < INDICATIVE_BELOW:
            lost += f" (indicative: {found.lost.groups} group{'s' * (found.lost.groups != 1)} of images)"
        gone = f"{cost.params_removed(dense):.0%} of the encoder's parameters gone"
        click.echo(f"{found.name}: {gone}, Boundary F1 {bf1:.4f} on validation images, {lost}")


def bisect(count: int, holds: Callable[[int], bool]) -> int | None:
    """Return the last place of 0 to count - 1 that holds, taking it that all before it do; None where none does."""
    low, high = -1, count
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if holds(middle) else (low, middle)
    return None if low < 0 else low


def _tenths(place: int) -> Level:
    share = TENTHS[place] / 10
    return Level(share, share)


def _name(goal: Level | Target) -> str:
    return str(goal).replace("=", "_").replace("%", "")
