"""`medcore-bench correction-study`: what the training-free correction gives, and which of its settings, on validation.

Test images are never looked at. Every cell is a pruned model, corrected in one way or not at all, and its Boundary F1
averaged over validation sets; nothing is trained. The defaults of `correct` are what this study settled.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import click
from torch import nn

from ..._support.memo import Ledger
from ..._support.progress import track
from ...correction.correct import correct
from ...correction.settings import CorrectionSettings
from ...data.folders.reading import Reading
from ...pruning.level import Level
from ...pruning.plan import Plan
from ...pruning.surgery import prune
from ...scoring.recipes import get_baseline
from ...zoo import NOTICE
from ..report.tables import Grid
from ..runner.inputs import Inputs
from .study import Study, write_study

GOAL = 0.03
"""How far below the unpruned model a corrected one may stay to be called close to it."""

UNPRUNED, PRUNED = "unpruned", "pruned"
VARIANTS: dict[str, tuple[Mapping[str, Any], ...]] = {
    PRUNED: (),
    "corrected": ({},),
    "no weighting": ({"weighting": "none"},),
    "band weighting": ({"weighting": "band"},),
    "squared gradient": ({"weighting": "gradient"},),
    "values kept": ({"values": False},),
    "neither": ({"weighting": "none", "values": False},),
    "layer by layer": ({"target": "layer", "weighting": "none", "values": False},),
    "bias": ({"bias": True},),
    "ridge x 0.1": ({"ridge": 1e-4},),
    "ridge x 10": ({"ridge": 1e-2},),
    "8 images a set": ({"samples": 8},),
    "16 images a set": ({"samples": 16},),
    "two rounds": ({}, {}),
    "blocks fitted": ({"fit_steps": 200},),
}
"""Name to the options of one `correct` after another; what is not named is the default, with 64 images a set."""


@dataclass(frozen=True)
class Outcome:
    """One cell: Boundary F1 of each validation set and their mean, of what `method` chose and `variant` corrected.

    Method and level are empty for the unpruned model; the correction's figures are None where nothing was corrected.
    """

    method: str
    level: str
    variant: str
    bf1: float
    by_set: Mapping[str, float]
    stream_error: float | None = None
    seconds: float | None = None


def _complete(samples: int, options: Mapping[str, Any]) -> dict[str, Any]:
    """Fill up with the defaults, which a stored cell has to agree with."""
    return {**asdict(CorrectionSettings()), "samples": samples, **options}


class Cells:
    """Evaluates cells that are not stored yet; those of an earlier run are found in `place`."""

    def __init__(self, study: Study, place: Path) -> None:
        self._study, self._model = study, study.inputs.adapted
        self._cells = Ledger(place, {**study.identity, "images": study.samples}, "cells")

    def run(self, methods: Sequence[str], levels: Sequence[Level], variants: Sequence[str]) -> list[Outcome]:
        """Return the unpruned model's outcome, then one a method, level and variant."""
        whole = self._cells.get_or_make(UNPRUNED, lambda: asdict(self._judge(self._model, UNPRUNED)))
        recipes = list(map(get_baseline, methods))
        statistics = self._study.statistics(recipes)
        plans = [plan for recipe in recipes for plan in self._study.plans(recipe, levels, statistics)]
        jobs = [(plan, variant) for plan in plans for variant in variants]
        outcomes = [self._outcome(plan, variant) for plan, variant in track(jobs, "correction study", total=len(jobs))]
        return [Outcome(**whole), *outcomes]

    def _outcome(self, plan: Plan, variant: str) -> Outcome:
        rounds = [_complete(self._study.samples, options) for options in VARIANTS[variant]]
        key = f"{plan.hash} {json.dumps(rounds, sort_keys=True)}"
        stored = self._cells.get_or_make(key, lambda: asdict(self._corrected(plan, variant, rounds)))
        # methods that agree on what goes share a cell
        return replace(Outcome(**stored), method=plan.criterion, level=plan.level, variant=variant)

    def _corrected(self, plan: Plan, variant: str, rounds: Sequence[Mapping[str, Any]]) -> Outcome:
        small = prune(self._model, plan)
        drawn = self._study.inputs.calibration(0)
        reports = [correct(small, self._model, drawn, progress=False, **options) for options in rounds]
        error = reports[-1].stream_error if reports else None
        seconds = sum(report.seconds for report in reports) if reports else None
        return self._judge(small, variant, plan, error, seconds)

    def _judge(
        self,
        model: nn.Module,
        variant: str,
        plan: Plan | None = None,
        error: float | None = None,
        seconds: float | None = None,
    ) -> Outcome:
        means = self._study.bf1(model)
        method, level = (plan.criterion, plan.level) if plan else ("", "")
        return Outcome(method, level, variant, sum(means.values()) / len(means), means, error, seconds)


def _level_grid(outcomes: Sequence[Outcome], level: str, unpruned: float, footer: Sequence[str]) -> Grid:
    of_level = [outcome for outcome in outcomes if outcome.level == level]
    methods = list(dict.fromkeys(outcome.method for outcome in of_level))
    found = {(outcome.variant, outcome.method): outcome.bf1 for outcome in of_level}
    rows = []
    for variant in dict.fromkeys(outcome.variant for outcome in of_level):
        cells = [found[variant, method] for method in methods]
        rows.append([variant, *(f"{value:.4f}{' *' if value >= unpruned - GOAL else ''}" for value in cells)])
    title = f"{level}: Boundary F1, unpruned {unpruned:.4f}"
    return Grid(title, ["variant", *methods], rows, footer=[f"*: within {GOAL} of the unpruned model", *footer])


def page(outcomes: Sequence[Outcome], inputs: Inputs, calibration: int) -> str:
    """Write the study as Markdown."""
    unpruned, levels = outcomes[0].bf1, dict.fromkeys(outcome.level for outcome in outcomes[1:])
    notice = [NOTICE] if inputs.is_phantom else []
    grids = [_level_grid(outcomes[1:], level, unpruned, notice).markdown() for level in levels]
    images = ", ".join(f"{name} ({len(samples)})" for name, samples in inputs.sets.items())
    shown = {outcome.variant for outcome in outcomes}
    says = " ".join(words for variant, words in _SAYS.items() if variant in shown)
    return _PREAMBLE.format(images=images, calibration=calibration, says=says) + "\n".join(grids)


_FILE = click.Path(dir_okay=False, path_type=Path)

_PREAMBLE = """# Training-free correction

Written by `medcore-bench correction-study`; not edited by hand.

Boundary F1 (2 px on the 256 grid), averaged over sets, of *validation* images: {images}. Test images were not looked
at. After the cut what is left of every block was fitted to the unpruned network by least squares, on {calibration}
training images a set, without labels and without fine-tuning.
{says}

"""
_SAYS = {
    "corrected": '"corrected" has the defaults of `medcore_prune.correct`; other rows change the one thing that they '
    "name.",
    "neither": '"neither" has no weighting and keeps the values.',
    "layer by layer": '"layer by layer" asks each layer for its own output in the unpruned network, and lets earlier '
    "errors stand; it has no weighting and keeps the values.",
    "blocks fitted": '"blocks fitted" goes on with all weights of one block after another.',
}


def _variants(named: str | None) -> tuple[str, ...]:
    names = tuple(VARIANTS if named is None else dict.fromkeys(name.strip() for name in named.split(",")))
    if unknown := [name for name in names if name not in VARIANTS]:
        raise click.BadParameter(f"unknown variant {unknown[0]!r}: expected some of {', '.join(VARIANTS)}")
    return names


def run(
    adapted: str | None,
    reference: str | None,
    data: tuple[str, ...],
    reading: Reading,
    methods: tuple[str, ...],
    levels: tuple[Level, ...],
    variants: str | None,
    images: int,
    calibration: int,
    device: str,
    cache: Path,
    out: Path,
) -> None:
    """Try the training-free correction in every variant, on validation images."""
    wanted = _variants(variants)
    chosen: dict[str, Any] = {"adapted": adapted, "reference": reference, "data": data, "reading": reading}
    study = Study.load(out, device, cache, images, calibration, **chosen)
    so_far = out.with_suffix(".cells.json")
    outcomes = Cells(study, so_far).run(methods, levels, wanted)
    notice = NOTICE if study.inputs.is_phantom else ""
    stored = {"notice": notice, "cells": [asdict(outcome) for outcome in outcomes]}
    write_study(out, stored, page(outcomes, study.inputs, calibration), so_far)
