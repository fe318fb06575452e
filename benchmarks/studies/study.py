"""What the studies share: models and validation images, calibration, plans, Boundary F1, and the page that they end in.

A study settles defaults, so that it looks at validation images and never at test images. What it measured so far lies
in a ledger beside its page, until the page is written: a killed study goes on from there.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import click
from torch import nn

from ..._support.files import write_json_atomic, write_text_atomic
from ...calibration.calibrate import calibrate
from ...calibration.collector import Need
from ...calibration.statistics import Statistics
from ...evaluation.evaluate import macro_average, predict, score
from ...evaluation.images import KEPT_BYTES, EvaluationSet
from ...models.precision import current_precision
from ...pruning.level import Level
from ...pruning.plan import Plan
from ...pruning.planning import planner
from ...scoring.recipes import Baseline
from ..runner.inputs import Inputs, load_inputs
from ..runner.jobs import scores_of
from ..runner.settings import COUNTS, Settings


@dataclass(frozen=True)
class Study:
    """The models and images of a study: the sets of its inputs are validation images.

    `samples` counts the calibration images of each set; `cache` is the folder of calibration statistics.
    """

    inputs: Inputs
    samples: int
    cache: Path | None = None

    @classmethod
    def load(
        cls,
        out: Path,
        device: str,
        cache: Path,
        images: int,
        calibration: int,
        *,
        training: int = 0,
        validation: int = 0,
        **chosen: Any,
    ) -> "Study":
        """Load the models and draw or read the images; `chosen` are fields of `Settings`, such as checkpoints.

        `training` and `validation` count the images of each set that a recovery reads, 0 for as many as by default.
        """
        counts = replace(COUNTS["default"], phantom_images=images, calibration=calibration)
        read = {"training": training or counts.training, "validation": validation or counts.validation}
        counts = replace(counts, **read)
        inputs = load_inputs(Settings(out.parent, counts, role="validation", device=device, **chosen))
        return cls(inputs, calibration, cache)

    def statistics(self, recipes: Iterable[Baseline]) -> Statistics | None:
        """Calibrate once for all recipes; None where none of them reads statistics."""
        needs = frozenset[Need]().union(*(recipe.needs for recipe in recipes))
        if not needs:
            return None
        models, drawn = (self.inputs.adapted, self.inputs.reference), self.inputs.calibration(0)
        return calibrate(*models, drawn, self.samples, needs, cache_dir=self.cache)

    def plans(self, recipe: Baseline, levels: Sequence[Level], statistics: Statistics | None) -> list[Plan]:
        """Score once and plan every level."""
        model, scores = self.inputs.adapted, scores_of(recipe, self.inputs, statistics)
        return list(map(planner(model, recipe, scores, statistics=statistics), levels))

    @property
    def identity(self) -> dict[str, Any]:
        """What all that a study measures depends on: models, images, and what networks compute in."""
        device = next(self.inputs.adapted.parameters()).device
        return {**self.inputs.hashes, "precision": current_precision(device)}

    @cached_property
    def _sets(self) -> list[EvaluationSet]:
        sets, frame = self.inputs.sets, self.inputs.frame
        return [EvaluationSet(samples, frame, kept_bytes=KEPT_BYTES // len(sets)) for samples in sets.values()]

    def bf1(self, model: nn.Module) -> dict[str, float]:
        """Boundary F1 on each validation set, by its name."""
        return {
            images.name: float(macro_average(score(predict(model, images), images))["bf1"]) for images in self._sets
        }


def write_study(out: Path, stored: Mapping[str, Any], page: str, so_far: Path | None = None) -> None:
    """Write the page and, beside it, its figures as JSON; what a stopped run would have gone on from goes."""
    write_json_atomic(out.with_suffix(".json"), stored)
    write_text_atomic(out, page)
    if so_far is not None:
        so_far.unlink(missing_ok=True)
    click.echo(f"written: {out}")
