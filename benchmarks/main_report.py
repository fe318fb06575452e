"""The report of `main`: Table 1 beside the paper's, what recovery and correction add, curves."""

from collections.abc import Mapping
from typing import Any

from ..evaluation.intervals import Interval
from .experiment_page import Picture, Section, render_experiment
from .grid import Grid
from .main_plots import loss_curves, size_against_contour
from .paper import paper_grid
from .records import NO_LEVEL
from .recovering import records
from .results import ResultStore
from .summarising import summarise
from .summary import HIGHER_IS_BETTER, UNPRUNED, Place, Row, Summary
from .tables import BELOW_FLOOR, METRIC_NAMES, footer, label, number, span

UNPRUNED_RECOVERED = "unpruned_recovered"
_LEAD = (
    "Encoder heads and MLP neurons removed and the model fine-tuned against the unpruned one. The unpruned model after "
    "the same recovery stands beside them: what it gains is fine-tuning's, not pruning's."
)


def render(store: ResultStore) -> None:
    """Write the report from what is stored."""
    summary = summarise(store)
    made = records(store)
    pictures = {
        "size": Picture(
            "Encoder parameters left against BF1, a line a way; dashed: the unpruned model, and it after the same "
            "recovery.",
            lambda theme: size_against_contour(summary, theme),
        )
    }
    curves = {
        "losses": Picture(
            "Loss of each recovery (running mean) and, as dots, BF1 on validation images; hollow: the weights that "
            "were kept.",
            lambda theme: loss_curves(made, theme),
        )
    }
    sections = [
        Section("Compression with recovery", figures=pictures, grids=[table(summary, made), paper_grid(1)]),
        Section("What recovery and correction add", grids=[gains(summary)]),
        Section("Recoveries", figures=curves, grids=[recoveries(made)]),
    ]
    render_experiment(store, "Compression with recovery", [_LEAD], sections, show=2)


def table(summary: Summary, made: Mapping[str, Mapping[str, Any]]) -> Grid:
    """The paper's Table 1 in its layout, with intervals of BF1, latency and peak memory."""
    timed = {tuple(record["place"][:3]): record["latency"] for record in made.values()}
    rows: list[list[str]] = []
    sections = []
    blocks = [("not pruned", summary.unpruned_rows)]
    blocks += [(title, summary.of_mode(mode)) for mode, title in summary.modes.items()]
    for title, of_block in blocks:
        sections.append(len(rows))
        for place, row in enumerate(of_block):
            name = label(row) if row.level == NO_LEVEL else row.level
            latency = timed.get((row.mode, row.method, row.level))
            if row.method == UNPRUNED and timed:
                latency = _own(next(iter(timed.values())))
            rows.append([title if place == 0 else "", name, *_size(row), *_metrics(row), *_latency(latency)])
    columns = ["what", "level", "params M", "FLOPs G", *METRIC_NAMES.values(), "ms an image", "of unpruned", "peak MB"]
    notes = [
        *footer(summary, next(iter(summary.modes), "any")),
        "ms an image: median forward pass of encoder and decoder for one box, batch of one; of unpruned: against the "
        "unpruned model timed in turns with it; peak MB: tensors alive at once in that pass, weights not counted.",
    ]
    return Grid("Table 1: compression, contour, cost", columns, rows, notes, sections[1:], left=2)


def _own(latency: Mapping[str, Any]) -> dict[str, Any]:
    return {UNPRUNED: latency[UNPRUNED], "model": latency[UNPRUNED]}


def _size(row: Row) -> list[str]:
    if "params" not in row.cost:
        return ["–", "–"]
    return [f"{row.cost['params'] / 1e6:.2f}", f"{row.cost['flops'] / 1e9:.2f}"]


def _metrics(row: Row) -> list[str]:
    cells = []
    for metric in HIGHER_IS_BETTER:
        text = number(metric, row.metrics[metric].value)
        if metric == "bf1":
            text = f"{text} {span(metric, row.metrics[metric])}"
        cells.append(f"{BELOW_FLOOR} {text}" if metric in row.below_floor else text)
    return cells


def _latency(latency: Mapping[str, Any] | None) -> list[str]:
    if latency is None:
        return ["–", "–", "–"]
    own, dense = latency["model"], latency[UNPRUNED]
    share = own["median_ms"] / dense["median_ms"]
    return [f"{own['median_ms']:.1f}", f"{share:.2f}", f"{own['peak_bytes'] / 1e6:.1f}"]


def gains(summary: Summary) -> Grid:
    """Paired differences of BF1: what each step adds at a level, and what is left to the unpruned model."""
    subject = summary.subject
    after: Place = ("any", NO_LEVEL, UNPRUNED_RECOVERED)
    rows = []
    for level in summary.levels:
        cut, corrected = ("cut", level, subject), ("corrected", level, subject)
        recovered, both = ("one_time", level, subject), ("corrected_recovered", level, subject)
        if summary.row(cut) is None:
            continue
        pairs = [
            (corrected, cut),
            (recovered, cut),
            (both, recovered),
            (corrected, ("any", NO_LEVEL, UNPRUNED)),
            (recovered, ("any", NO_LEVEL, UNPRUNED)),
            (recovered, after),
        ]
        rows.append([level, *(difference(summary.paired(own, other)) for own, other in pairs)])
    rows.append(["unpruned", "", difference(summary.paired(after, ("any", NO_LEVEL, UNPRUNED))), "", "", "", ""])
    columns = [
        "level",
        "correction",
        "recovery",
        "corrected + quarter recovery − recovery",
        "corrected − unpruned",
        "recovered − unpruned",
        "recovered − unpruned recovered",
    ]
    notes = [summary.notice, "Differences of BF1 with paired 95 % intervals; correction, recovery: against the cut."]
    return Grid("What each step adds to BF1", columns, rows, notes)


def difference(value: Interval | None) -> str:
    """Write a difference of BF1 with its interval, a dash where there is none."""
    return "–" if value is None else f"{number('bf1', value.value, True)} {span('bf1', value, True)}"


def recoveries(made: Mapping[str, Mapping[str, Any]]) -> Grid:
    """Every recovery: steps, the weights kept, the loss at both ends, seconds."""
    rows = []
    for record in made.values():
        for stage in record["stages"]:
            losses = stage.get("losses", {}).get("loss", [])
            if losses:
                tenth = max(1, len(losses) // 10)
                start, end = sum(losses[:tenth]) / tenth, sum(losses[-tenth:]) / tenth
                kept = f"{stage['best_step']}" + (", stopped early" if stage["stopped_early"] else "")
                name = " ".join(filter(None, record["place"])).replace("_", " ")
                cells = [str(len(losses)), kept, f"{start:.3f}", f"{end:.3f}", f"{stage['seconds']:.0f}"]
                rows.append([name, stage["name"], *cells])
    columns = ["model", "stage", "steps", "weights of step", "loss, first tenth", "last tenth", "seconds"]
    return Grid("Recoveries", columns, rows, left=2)
