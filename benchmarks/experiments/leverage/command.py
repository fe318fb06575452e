"""`medcore-bench leverage`: does a percent saved by heads move the contour farther than one by the MLP (Table 4)?"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import replace

import click
import pandas as pd

from ...._support.errors import MedcorePruneError, ResultsError
from ...._support.files import write_text_atomic
from ....calibration.statistics import Statistics
from ....pruning.level import Level
from ....pruning.plan import Plan
from ....pruning.planning import planner
from ....scoring.criterion import unit_scores
from ...report.page import Picture, Section, render_experiment
from ...runner.evaluate import Evaluator, duration, seconds_an_image
from ...runner.experiment import begin, calibrated, experiment_options, running
from ...runner.inputs import Inputs
from ...runner.methods import Method, choose_methods
from ...runner.settings import Settings, method_option
from ...runner.store import ResultStore
from . import plots
from . import report as tables
from .contours import LEVELS, measure_contours, read_contours, summarise_contours
from .steps import StepGrid
from .summary import summarise_sweep
from .sweep import Cells, sweep

NAME = "leverage"


class Percents(click.ParamType):
    """Rising percentages separated by commas, as shares."""

    name = "PERCENT,..."

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> tuple[float, ...]:
        """Read them, or end with a usage error."""
        if isinstance(value, tuple):
            return value
        try:
            return tuple(round(float(text) / 100, 6) for text in str(value).split(","))
        except ValueError:
            self.fail(f"{value!r}: expected percentages separated by commas, such as 30,50,70", param, ctx)


def _percents(shares: tuple[float, ...]) -> str:
    return ",".join(f"{100 * share:g}" for share in shares)


@click.command(name=NAME)
@experiment_options(NAME, gallery=False)
@method_option
@click.option(
    "--heads",
    type=Percents(),
    default=_percents(StepGrid.heads),
    show_default=True,
    help="Shares of the attention heads that go, in per cent.",
)
@click.option(
    "--mlp",
    type=Percents(),
    default=_percents(StepGrid.neurons),
    show_default=True,
    help="Shares of the MLP neurons that go, in per cent.",
)
def command(settings: Settings, method: str, heads: tuple[float, ...], mlp: tuple[float, ...]) -> None:
    """Measure how far compression steps move the contour for what they save: heads against MLP.

    A sweep over head and MLP levels, scored once; and a test of the first-order
    displacement of the contour behind it. On the built-in pair and drawn polyps
    by default.

    \b
    Example:
      medcore-bench leverage --quick --heads 30,50,70 --mlp 30,50,70
    """
    if settings.seeds != 1:
        raise MedcorePruneError("--seeds: a sweep looks at one calibration sample; leave it at 1")
    settings = replace(settings, methods=(method,), subject=method)
    grid = StepGrid(heads, mlp)
    with running(settings):
        (chosen,) = choose_methods(settings)
        identity = {"method": chosen.fingerprint, "heads": heads, "mlp": mlp, "batch": settings.batch_size}
        inputs, store = begin(settings, NAME, methods=[chosen], identity=identity)
        models = len(grid.levels) + len(LEVELS)
        images = sum(map(len, inputs.sets.values()))
        seconds = images * models * seconds_an_image(Evaluator(inputs, settings, store))
        click.echo(f"{models} pruned models at most, {images} images, at most about {duration(seconds)}")
        statistics = calibrated(inputs, store, settings, chosen.needs).get(0)
        run(inputs, store, settings, chosen, grid, statistics)
        render(store)


def run(
    inputs: Inputs,
    store: ResultStore,
    settings: Settings,
    method: Method,
    grid: StepGrid,
    statistics: Statistics | None,
) -> None:
    """Measure what is not stored yet, and store the figures.

    Args:
        inputs: Model and images.
        store: Where results go.
        settings: Batch size, grid, draws.
        method: Whose scores choose.
        grid: Levels.
        statistics: What the method's scores read.
    """
    plans = _plans(inputs, method, statistics, (*grid.levels, *LEVELS))
    cells = Cells.of(inputs.adapted, grid, {level: plans[level] for level in grid.levels})
    paths = sweep(inputs.adapted, cells, inputs.sets, settings, store.root)
    digest = hashlib.sha256(json.dumps([plans[level].hash for level in LEVELS]).encode()).hexdigest()
    measure_contours(inputs.adapted, plans, inputs.sets, digest, store.root)
    draws = settings.counts.draws
    store.write_analysis(NAME, {"method": method.name, **summarise_sweep(paths, cells, draws)})
    store.write_analysis("contours", {"rows": summarise_contours(read_contours(store.root), draws)})


def _plans(
    inputs: Inputs, method: Method, statistics: Statistics | None, levels: tuple[Level, ...]
) -> Mapping[Level, Plan]:
    recipe, model = method.recipe, inputs.adapted
    data = inputs.calibration(0) if recipe.reads_images else None
    scores = unit_scores(recipe.build(statistics, model, 0, inputs.reference, data), model)
    make = planner(model, recipe, scores, statistics=statistics)
    return {level: make(level) for level in levels}


def render(store: ResultStore) -> None:
    """Write the report from what is stored.

    Raises:
        ResultsError: The run is not finished.
    """
    found, contours = store.analysis(NAME), store.analysis("contours")
    if found is None or contours is None:
        raise ResultsError(f"{store.root} holds no finished sweep yet: run the same command again to go on")
    steps = pd.DataFrame(found["steps"])
    write_text_atomic(store.root / "steps.csv", steps.to_csv(index=False, lineterminator="\n"))
    write_text_atomic(store.root / "cells.csv", pd.DataFrame(found["cells"]).to_csv(index=False, lineterminator="\n"))
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
    sections = [
        Section("Heads against MLP", grids=[tables.main(found, notice), tables.bands(found, notice)], figures=pictures),
        Section("Theorem 3.3", tables.THEOREM, [tables.theorem(rows, notice)], theorem),
        Section("All steps", grids=[tables.steps(steps, notice)], folded=True),
    ]
    lead = [f"Pruned by {found['method']}, no fine-tuning. {tables.LEAD}"]
    render_experiment(store, "Boundary leverage", lead, sections, show=3)
