"""`medcore-bench leverage`: does a percent saved by heads move the contour farther than one by the MLP (Table 4)?"""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pandas as pd

from ...._support.errors import MedcorePruneError, ResultsError
from ....pruning.planning import planner
from ...report.page import Page, Picture, Section
from ...runner.evaluate import duration, seconds_an_image
from ...runner.experiment import Experiment, register_experiment
from ...runner.jobs import scores_of
from ...runner.store import ResultStore
from . import plots
from . import report as tables
from .contours import LEVELS, measure_contours, read_contours, summarise_contours
from .steps import StepGrid
from .summary import summarise_sweep
from .sweep import Cells, sweep

NAME = "leverage"


@register_experiment(NAME)
@dataclass
class Leverage(Experiment):
    """Measure how far compression steps move the contour for what they save: heads against MLP."""

    method: str
    heads: tuple[float, ...]
    mlp: tuple[float, ...]

    def __post_init__(self) -> None:
        if self.settings.seeds != 1:
            raise MedcorePruneError("--seeds: a sweep looks at one calibration sample; leave it at 1")
        self.grid = StepGrid(self.heads, self.mlp)

    def identity(self) -> dict[str, Any]:
        method, batch = self.methods[0].fingerprint, self.settings.batch_size
        return {"method": method, "heads": self.heads, "mlp": self.mlp, "batch": batch}

    def announced(self) -> Iterator[str]:
        models = len(self.grid.levels) + len(LEVELS)
        seconds = self.images * models * seconds_an_image(self.evaluator)
        yield f"{models} pruned models at most, {self.images} images, at most about {duration(seconds)}"

    def measure(self) -> None:
        """Measure what is not stored yet: steps between pruned models, of which none is a row of its own."""
        model, sets, root = self.inputs.adapted, self.inputs.sets, self.store.root
        method, draws = self.methods[0], self.settings.counts.draws
        recipe, statistics = method.recipe, self.statistics.get(0)
        make = planner(model, recipe, scores_of(recipe, self.inputs, statistics), statistics=statistics)
        plans = {level: make(level) for level in (*self.grid.levels, *LEVELS)}
        precision = self.settings.precision
        cells = Cells.of(model, self.grid, {level: plans[level] for level in self.grid.levels}, precision)
        paths = sweep(model, cells, sets, self.settings, root)
        depends = [*(plans[level].hash for level in LEVELS), precision]
        digest = hashlib.sha256(json.dumps(depends).encode()).hexdigest()
        measure_contours(model, plans, sets, digest, root)
        self.store.write_analysis(NAME, {"method": method.name, **summarise_sweep(paths, cells, draws)})
        self.store.write_analysis("contours", {"rows": summarise_contours(read_contours(root), draws)})

    @staticmethod
    def page(store: ResultStore) -> Page:
        found, contours = store.analysis(NAME), store.analysis("contours")
        if found is None or contours is None:
            raise ResultsError(f"{store.root} holds no finished sweep yet: run the same command again to go on")
        steps = pd.DataFrame(found["steps"])
        points, rows = read_contours(store.root), contours["rows"]
        notice = str(store.run.get("notice", ""))
        pictures = {
            "leverage": Picture(tables.CAPTIONS["leverage"], lambda theme: plots.leverage(steps, found, theme)),
            "levels": Picture(tables.CAPTIONS["levels"], lambda theme: plots.levels(steps, theme)),
            "paired": Picture(tables.CAPTIONS["paired"], lambda theme: plots.paired(steps, theme)),
            "damage": Picture(tables.CAPTIONS["damage"], lambda theme: plots.damage(steps, theme)),
        }
        theorem = {
            "contour": Picture(tables.CAPTIONS["contour"], lambda theme: plots.contour(points, theme)),
            "theorem": Picture(tables.CAPTIONS["theorem"], lambda theme: plots.theorem_figure(points, rows, theme)),
            "order": Picture(tables.CAPTIONS["order"], lambda theme: plots.order(rows, theme)),
        }
        shown = [tables.main(found, notice), tables.bands(found, notice), tables.theorem(rows, notice)]
        sections = [
            Section("Heads against MLP", grids=shown[:2], figures=pictures),
            Section("Theorem 3.3", tables.THEOREM, shown[2:], theorem),
            Section("All steps", grids=[tables.steps(steps, notice)], folded=True),
        ]
        lead = [f"Pruned by {found['method']}, no fine-tuning. {tables.LEAD}"]
        frames = {"steps": steps, "cells": pd.DataFrame(found["cells"])}
        return Page("Boundary leverage", lead, sections, shown, frames)


command = Leverage.command()
