"""`medcore-bench ablation`: the paper's Table 3, MedCore without one of its parts at a time."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

import click

from ...commands.options import Whole
from ...pruning.level import Level
from ...scoring.recipes import get_baseline
from ...training.cascade import Cascaded, cascade, second_pass
from ..report.page import Picture, Section, render_experiment
from ..report.paper import paper_grid
from ..report.plots.comparison import forest
from ..report.summary import Summary, summarise
from ..report.tables import Grid, comparison, differences, number, span
from ..runner.evaluate import Evaluator, digest, duration, seconds_an_image
from ..runner.experiment import begin, calibrated, experiment_options, running
from ..runner.jobs import make_jobs
from ..runner.methods import Method
from ..runner.recover import Item, Maker, recovery_settings
from ..runner.settings import Settings
from ..runner.store import ResultStore

NAME = "ablation"
LEVELS = tuple(map(Level.parse, ("h40_m30", "h50_m70", "h70_m70", "h70_m95")))
VARIANTS: Mapping[str, Mapping[str, Any]] = {
    "without_boundary_fisher": {"lambda_b": 0.0},
    "without_reset": {"alpha": 1.0},
    "without_variance": {"beta": 0.0},
    "full": {},
}
"""What each variant changes in the `medcore` recipe; the loss's lambda_B also acts on the block sensitivity."""
FULL = "full"
MODES = {"own": "one-time, no fine-tuning", "sequential": "sequential, recovered"}
FIRST, SECOND = Level.parse("h70_m95"), Level.parse("h84_m95")
"""The paper's sequential column: the recovered one-time level, then the formerly protected blocks at the second."""


def variants(settings: Settings) -> list[Method]:
    """The recipes that are compared, each over the calibration draws."""
    recipe = get_baseline("medcore")
    return [
        Method(name, replace(recipe.with_settings(**changes), name=name), "built-in", tuple(range(settings.seeds)))
        for name, changes in VARIANTS.items()
    ]


@click.command(name=NAME)
@experiment_options(NAME, levels=LEVELS, subject=FULL, gallery=False, correct=False)
@click.option(
    "--sequential",
    is_flag=True,
    help=f"Recover each variant at {FIRST}, cut it again at {SECOND} and recover it: the paper's last column.",
)
@click.option("--steps", type=Whole(1), metavar="N", help="Steps of a recovery under --sequential.")
def command(settings: Settings, sequential: bool, steps: int | None) -> None:
    """Take MedCore apart: without the boundary Fisher, the reset, or the variance over data sets.

    The boundary Fisher weighs errors at contours more, the reset asks what
    giving a unit SAM's weights back would do, the variance what data sets
    disagree on. Without fine-tuning, as the paper's Table 3, on the built-in
    pair and drawn polyps by default.

    \b
    Example:
      medcore-bench ablation --quick --levels h70_m70
    """
    with running(settings):
        methods = variants(settings)
        inputs, store = begin(settings, NAME, methods=methods, modes=MODES)
        evaluator = Evaluator(inputs, settings, store, experiment=NAME)
        masks = (len(methods) * len(settings.levels) * settings.seeds + 1) * sum(map(len, inputs.sets.values()))
        click.echo(f"{masks} masks, about {duration(masks * seconds_an_image(evaluator))} after calibration")
        evaluator.run_unpruned()
        needs = frozenset().union(*(method.needs for method in methods))
        statistics = calibrated(inputs, store, settings, needs)
        evaluator.samples_of.update({draw: digest(each) for draw, each in statistics.items()})
        evaluator.run(make_jobs(methods, inputs, statistics, settings, store, ("own",), NAME))
        if sequential:
            maker = Maker(inputs, settings, store, evaluator, recovery_settings(settings, steps))
            items = sequential_items(methods, maker)
            maker.announce(items, inputs.roles)
            maker.run(items)
        render(store)


def sequential_items(methods: Sequence[Method], maker: Maker) -> list[Item]:
    """Both passes of every variant, each recovered, scored by the variant throughout."""
    inputs, settings, recovery = maker.inputs, maker.settings, maker.recovery

    def item(method: Method) -> Item:
        options: dict[str, Any] = {
            "criterion": method.recipe,
            "reference": inputs.reference,
            "data": inputs.roles,
            "schedule": "one-shot",
            "recovery": recovery,
            "samples": settings.counts.calibration,
            "store": maker.recoveries,
            "cache_dir": settings.calibration_folder,
        }

        def make() -> Cascaded:
            return second_pass(cascade(inputs.adapted, FIRST, **options), SECOND, **options)

        recipe = {"method": method.fingerprint, "recovery": asdict(recovery), "first": str(FIRST)}
        return Item("sequential", method.name, str(SECOND), make, recipe, 2 * recovery.steps, 2)

    return [item(method) for method in methods]


def render(store: ResultStore) -> None:
    """Write the report from what is stored."""
    summary = summarise(store, FULL)
    lead = [
        "MedCore with one part taken away at a time; one-time pruning, own quotas, no fine-tuning. "
        "Positive differences: the part helps."
    ]
    sections = [
        Section("Boundary F1", grids=[bf1_table(summary), paper_grid(3, left=1)]),
        Section(
            "Differences",
            figures={
                "ablation": Picture(
                    "Full MedCore minus each variant, paired 95 % intervals; filled: significant after Holm. "
                    "HD95: negative is better.",
                    lambda theme: forest(summary, theme),
                )
            },
            grids=[differences(summary, "own")],
            folded=True,
        ),
        Section("All metrics", grids=[comparison(summary, mode) for mode in summary.modes]),
    ]
    render_experiment(store, "What each part of MedCore contributes", lead, sections)


def bf1_table(summary: Summary) -> Grid:
    """BF1 of each variant at each level, in the layout of the paper's Table 3."""
    levels = [level for level in summary.levels if summary.of("own", level)]
    sequential = {row.method: row for row in summary.of_mode("sequential")}
    rows = []
    for name in (FULL, *(variant for variant in VARIANTS if variant != FULL)):
        found = {row.level: row for row in summary.of_mode("own") if row.method == name}
        if found:
            cells = [_cell(found.get(level)) for level in levels]
            rows.append([name.replace("_", " "), *cells, *([_cell(sequential.get(name))] if sequential else [])])
    columns = ["variant", *levels, *([f"sequential {SECOND}, recovered"] if sequential else [])]
    return Grid("BF1, macro average, no fine-tuning where not said", columns, rows, [summary.notice])


def _cell(row: Any) -> str:
    return "–" if row is None else f"{number('bf1', row.metrics['bf1'].value)} {span('bf1', row.metrics['bf1'])}"
