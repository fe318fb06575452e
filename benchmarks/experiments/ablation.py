"""`medcore-bench ablation`: the paper's Table 3, MedCore without one of its parts at a time."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from ...scoring.recipes import get_baseline
from ...training.cascade import Cascaded, cascade, second_pass
from ...training.settings import RecoverySettings, deciding
from ..commands.ablation import FIRST, FULL, SECOND
from ..report.page import Page, Picture, Section
from ..report.paper import paper_grid
from ..report.plots.comparison import forest
from ..report.summary import Summary, summarise
from ..report.tables import Grid, comparison, differences, estimate
from ..runner.evaluate import duration, seconds_an_image
from ..runner.experiment import Experiment, register_experiment
from ..runner.jobs import Job, make_jobs
from ..runner.methods import Method
from ..runner.recover import Item, Maker, recovery_settings
from ..runner.settings import Settings
from ..runner.store import ResultStore

VARIANTS: Mapping[str, Mapping[str, Any]] = {
    "without_boundary_fisher": {"lambda_b": 0.0},
    "without_reset": {"alpha": 1.0},
    "without_variance": {"beta": 0.0},
    "full": {},
}
"""What each variant changes in the `medcore` recipe; the loss's lambda_B also acts on the block sensitivity."""
MODES = {"own": "one-time, no fine-tuning", "sequential": "sequential, recovered"}
"""The paper's sequential column: the recovered one-time level, then the formerly protected blocks at the second."""


def variants(settings: Settings) -> list[Method]:
    """The recipes that are compared, each over the calibration draws."""
    recipe = get_baseline("medcore")
    return [
        Method(name, replace(recipe.with_settings(**changes), name=name), "built-in", tuple(range(settings.seeds)))
        for name, changes in VARIANTS.items()
    ]


@register_experiment("ablation")
@dataclass
class Ablation(Experiment):
    """Take MedCore apart: without the boundary Fisher, the reset, or the variance over data sets."""

    modes = MODES

    sequential: bool
    steps: int | None

    def choose(self) -> list[Method]:
        return variants(self.settings)

    def announced(self) -> Iterator[str]:
        masks = (len(self.methods) * len(self.settings.levels) * self.settings.seeds + 1) * self.images
        yield f"{masks} masks, about {duration(masks * seconds_an_image(self.evaluator))} after calibration"

    def jobs(self) -> list[Job]:
        settings = self.settings
        return make_jobs(self.methods, self.inputs, self.statistics, settings, self.store, ("own",), self.name)

    def recovery(self) -> RecoverySettings:
        return recovery_settings(self.settings, self.steps)

    def items(self) -> list[Item]:
        return sequential_items(self.methods, self.maker) if self.sequential else []

    @staticmethod
    def page(store: ResultStore) -> Page:
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
        return Page("What each part of MedCore contributes", lead, sections, sections[0].grids[:1])


command = Ablation.command()


def sequential_items(methods: Sequence[Method], maker: Maker) -> list[Item]:
    """Both passes of every variant, each recovered, scored by the variant throughout."""
    model, recovery = maker.inputs.adapted, maker.recovery

    def item(method: Method) -> Item:
        options = {**maker.options, "criterion": method.recipe, "schedule": "one-shot", "recovery": recovery}

        def make() -> Cascaded:
            return second_pass(cascade(model, FIRST, **options), SECOND, **options)

        recipe = {"method": method.fingerprint, "recovery": deciding(asdict(recovery)), "first": str(FIRST)}
        return Item("sequential", method.name, str(SECOND), make, recipe, 2 * recovery.steps, 2)

    return [item(method) for method in methods]


def bf1_table(summary: Summary) -> Grid:
    """BF1 of each variant at each level, in the layout of the paper's Table 3."""
    levels = [level for level in summary.levels if summary.of("own", level)]
    sequential = {row.method: row for row in summary.of_mode("sequential")}
    rows = []
    for name in (FULL, *(variant for variant in VARIANTS if variant != FULL)):
        found = {row.level: row for row in summary.of_mode("own") if row.method == name}
        if found:
            shown = [*map(found.get, levels), *([sequential.get(name)] if sequential else [])]
            cells = (estimate("bf1", row.metrics["bf1"] if row else None) for row in shown)
            rows.append([name.replace("_", " "), *cells])
    columns = ["variant", *levels, *([f"sequential {SECOND}, recovered"] if sequential else [])]
    return Grid("BF1, macro average, no fine-tuning where not said", columns, rows, [summary.notice])
