"""`medcore-bench landscape`: Boundary F1 over head and MLP compression (the paper's Section 5.3 and Figure 3)."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import pandas as pd

from ...models.families import blocks_of
from ...pruning.level import Level
from ...pruning.planning import make_plan
from ..report.comparison import comparison_frame
from ..report.page import Page, Picture, Section
from ..report.plots.landscape import block_losses, heat_maps, lost, map_modes, slices, surface
from ..report.summary import Row, Summary, summarise
from ..report.tables import Grid, number, percent, span
from ..runner.evaluate import duration, seconds_an_image
from ..runner.experiment import Experiment, register_experiment
from ..runner.jobs import Job, Scores, keep_plan, make_jobs, scores_of
from ..runner.settings import CORRECTED, MODES
from ..runner.store import ResultStore
from .baselines import corrected_jobs

PAPER_PAIR = (("h30_m80", 0.376), ("h50_m70", 0.408))
"""Section 5.3: two ways to remove about 60 % of the parameters, and the paper's BF1 without fine-tuning."""
BLOCKS = "blocks"
BLOCK_LEVEL = Level.parse("h84_m95")
"""The paper's strongest level, of one block alone."""


@register_experiment("landscape")
@dataclass
class Landscape(Experiment):
    """Map Boundary F1 over the share of heads and of MLP neurons that go, without recovery."""

    modes: ClassVar = {mode: MODES[mode] for mode in ("own", CORRECTED)} | {BLOCKS: f"one block at {BLOCK_LEVEL}"}

    method: str

    def announced(self) -> Iterator[str]:
        models = len(self.settings.levels) * (2 if self.settings.correct else 1)
        masks = models * len(self.methods[0].seeds) * self.images
        yield f"{models} pruned models, {masks} masks, about {duration(masks * seconds_an_image(self.evaluator))}"

    def jobs(self) -> list[Job]:
        inputs, settings, methods = self.inputs, self.settings, self.methods
        kept = dict[tuple[str, int], Scores]()
        own = make_jobs(methods, inputs, self.statistics, settings, self.store, ("own",), self.name, kept)
        corrected = corrected_jobs(own, methods, inputs, settings) if settings.correct else []
        return [*own, *corrected, *self._blocks(own[0], kept.get((methods[0].name, 0)))]

    def _blocks(self, alike: Job, scores: Scores | None) -> list[Job]:
        """Cut one block at a time, by the scores of a job: which blocks can least be cut."""
        inputs, method = self.inputs, self.methods[0]
        # of a slow method plans may be there without scores
        scores = scores or scores_of(method.recipe, inputs, self.statistics.get(0))
        jobs = []
        for block in range(len(blocks_of(inputs.adapted))):
            plan = make_plan(inputs.adapted, BLOCK_LEVEL, scores=scores, only=(block,), criterion_name=method.name)
            keep_plan(self.store, plan)
            name, level = f"block_{block:02d}", str(BLOCK_LEVEL)
            jobs.append(replace(alike, method=name, mode=BLOCKS, level=level, plan=plan))
        return jobs

    @staticmethod
    def page(store: ResultStore) -> Page:
        summary = summarise(store)
        pictures = {
            "landscape": Picture(
                "BF1 over the share of heads (across) and of MLP neurons (up) that was asked to go. Lines: encoder "
                "parameters removed, in percent. Colours start at the lowest and end at the unpruned model's BF1.",
                lambda theme: heat_maps(summary, theme),
            ),
            "slices": Picture(
                "BF1 against the share of heads, one line a share of MLP neurons; dashed: the unpruned model.",
                lambda theme: slices(summary, theme),
            ),
        }
        of_blocks = {
            "blocks": Picture(
                f"Loss of BF1 when {BLOCK_LEVEL} is asked of one block alone, with paired 95 % intervals; shallow to "
                "deep.",
                lambda theme: block_losses(summary, theme),
            )
        }
        sections = [
            Section("The landscape", figures=pictures),
            Section("Two ways to the same size", grids=[pair_table(summary)]),
            Section("Equal parameters", grids=[equal_parameters(summary)]),
            Section("One block at a time", figures=of_blocks, grids=[block_table(summary)]),
            Section("All levels", grids=[grid_table(summary, mode) for mode in map_modes(summary)], folded=True),
        ]
        lead = [f"Pruned by {summary.subject} at every pair of head and MLP compression, no fine-tuning."]
        frames = {"landscape": comparison_frame(summary)}
        return Page("The compression landscape", lead, sections, sections[1].grids, frames)


command = Landscape.command()


def pair_table(summary: Summary) -> Grid:
    """The pair of levels that the paper compares at about 60 % of the parameters."""
    rows = []
    for level, theirs in PAPER_PAIR:
        found = summary.of("own", level)
        if found:
            bf1 = found[0].metrics["bf1"]
            cells = [percent(found[0].cost["params_removed"]), number("bf1", bf1.value), span("bf1", bf1)]
            rows.append([level, *cells, f"{theirs:.3f}"])
    footer = [summary.notice, "The paper's: MedSAM ViT-B on real polyps, no fine-tuning."]
    return Grid("About 60 % removed", ["level", "params -%", "BF1", "95 %", "the paper's BF1"], rows, footer)


def equal_parameters(summary: Summary, width: float = 0.05) -> Grid:
    """The best and the worst level of each band of parameters removed."""
    rows = []
    bands = _bands(summary.of_mode("own"), width)
    for low, found in bands.items():
        if len(found) < 2:
            continue
        ranked = sorted(found, key=lambda row: row.metrics["bf1"].value)
        worst, best = ranked[0], ranked[-1]
        rows.append(
            [
                f"{100 * low:.0f}–{100 * (low + width):.0f}",
                str(len(found)),
                best.level,
                number("bf1", best.metrics["bf1"].value),
                worst.level,
                number("bf1", worst.metrics["bf1"].value),
            ]
        )
    columns = ["params -%", "levels", "best", "BF1", "worst", "BF1 "]
    return Grid("Levels of about equal parameters", columns, rows, [summary.notice])


def _bands(rows: Sequence[Row], width: float) -> dict[float, list[Row]]:
    bands: dict[float, list[Row]] = {}
    for row in rows:
        bands.setdefault(int(row.cost["params_removed"] / width) * width, []).append(row)
    return dict(sorted(bands.items()))


def block_table(summary: Summary) -> Grid:
    """What cutting one block costs, block by block."""
    rows = [
        [method.removeprefix("block_"), number("bf1", loss.value, True), span("bf1", loss, True)]
        for method, loss in lost(summary).items()
    ]
    return Grid(f"Loss of BF1, one block at {BLOCK_LEVEL}", ["block", "BF1 lost", "95 %"], rows, [summary.notice])


def grid_table(summary: Summary, mode: str) -> Grid:
    """BF1 at every level, MLP shares down and head shares across."""
    table = surface(summary, mode)
    rows = [
        [f"m{m}", *("–" if pd.isna(value) else number("bf1", float(value)) for value in table.loc[m])]
        for m in table.index
    ]
    title = f"BF1, {summary.modes[mode]}"
    return Grid(title, ["MLP -%", *(f"h{h}" for h in table.columns)], rows, [summary.notice])
