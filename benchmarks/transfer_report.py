"""The report of `transfer`: Table 2 beside the paper's, what a shared plan costs, curves."""

from matplotlib.figure import Figure

from .experiment_page import Picture, Section, render_experiment
from .grid import Grid
from .main_plots import loss_curves
from .main_report import UNPRUNED_RECOVERED, difference, recoveries
from .paper import paper_grid
from .plot_style import Theme
from .records import NO_LEVEL
from .recovering import records
from .results import ResultStore
from .summarising import summarise
from .summary import UNPRUNED, Row, Summary
from .tables import BELOW_FLOOR, label, number, span

MODES = {
    "joint": "one plan for all modalities, recovered on each",
    "own": "a plan for each modality, recovered on it",
    "joint_cut": "one plan for all modalities, no recovery",
}
_METRICS = ("dice", "bf1", "hd95_px")
_LEAD = (
    "One plan a level, calibrated over all modalities together, then recovered and evaluated on each of them. Beside "
    "it a plan of each modality's own. The unpruned model is shown after the same recovery too."
)


def render(store: ResultStore) -> None:
    """Write the report from what is stored."""
    made = records(store)
    of_sets = {name: summarise(store, datasets=[name]) for name in store.run["data"]}
    pictures = {
        "modalities": Picture(
            "BF1 on each modality, with 95 % intervals. Dashed: the unpruned model; dotted: after the same recovery.",
            lambda theme: modalities(of_sets, theme),
        )
    }
    curves = {
        "losses": Picture(
            "Loss of each recovery (running mean) and, as dots, BF1 on validation images; hollow: the weights kept.",
            lambda theme: loss_curves(made, theme),
        )
    }
    sections = [
        Section("Modalities", figures=pictures, grids=[table(of_sets), paper_grid(2)]),
        Section("What a shared plan costs", grids=[shared(of_sets)]),
        Section("Recoveries", figures=curves, grids=[recoveries(made)]),
    ]
    render_experiment(store, "The same pipeline on other modalities", [_LEAD], sections, show=1)


def table(of_sets: dict[str, Summary]) -> Grid:
    """The paper's Table 2 in its layout, with what is not pruned, and without recovery."""
    rows: list[list[str]] = []
    sections = []
    for name, summary in of_sets.items():
        sections.append(len(rows))
        shown = [("", row) for row in summary.unpruned_rows]
        for level in summary.levels:
            shown += [(title, row) for mode, title in MODES.items() for row in summary.of(mode, level)]
        for place, (title, row) in enumerate(shown):
            first = name if place == 0 else ""
            rows.append([first, label(row) if row.level == NO_LEVEL else row.level, title, *_cells(row)])
    notice = next(iter(of_sets.values())).notice
    notes = [
        notice,
        f"{BELOW_FLOOR} worse than a floor, which uses no network. Intervals: 95 %, over groups of images.",
    ]
    columns = ["data set", "level", "plan", "params M", "FLOPs G", "Dice", "BF1", "HD95 px"]
    return Grid("Table 2: one plan, several modalities", columns, rows, notes, sections[1:], left=3)


def _cells(row: Row) -> list[str]:
    has_size = "params" in row.cost
    size = [f"{row.cost['params'] / 1e6:.2f}", f"{row.cost['flops'] / 1e9:.2f}"] if has_size else ["–", "–"]
    values = []
    for metric in _METRICS:
        text = number(metric, row.metrics[metric].value)
        text += f" {span(metric, row.metrics[metric])}" if metric == "bf1" else ""
        values.append(f"{BELOW_FLOOR} {text}" if metric in row.below_floor else text)
    return [*size, *values]


def shared(of_sets: dict[str, Summary]) -> Grid:
    """Paired differences of BF1 between the shared plan and a modality's own, and from the unpruned model."""
    rows = []
    for name, summary in of_sets.items():
        for place, level in enumerate(summary.levels):
            joint, own = ("joint", level, summary.subject), ("own", level, summary.subject)
            pairs = [
                (joint, own),
                (joint, ("any", NO_LEVEL, UNPRUNED)),
                (joint, ("any", NO_LEVEL, UNPRUNED_RECOVERED)),
            ]
            cells = [difference(summary.paired(one, other)) for one, other in pairs]
            rows.append([name if place == 0 else "", level, *cells])
    columns = ["data set", "level", "shared − own plan", "shared − unpruned", "shared − unpruned recovered"]
    notice = next(iter(of_sets.values())).notice
    return Grid("Differences of BF1, recovered", columns, rows, [notice, "Paired 95 % intervals."], left=2)


def modalities(of_sets: dict[str, Summary], theme: Theme) -> Figure:
    """Draw BF1 at each level, a panel a modality and a line a mode."""
    figure = Figure(figsize=(3.6 * len(of_sets) + 0.6, 3.6))
    axes = figure.subplots(1, len(of_sets), squeeze=False)[0]
    colours = dict(zip(MODES, ("#e5532d", "#3b7dd8", "#8d99a6"), strict=True))
    for axis, (name, summary) in zip(axes, of_sets.items(), strict=True):
        for place, (mode, title) in enumerate(MODES.items()):
            rows = {row.level: row.metrics["bf1"] for row in summary.of_mode(mode)}
            found = [rows[level] for level in summary.levels if level in rows]
            where = [n + 0.08 * (place - 1) for n, level in enumerate(summary.levels) if level in rows]
            ends = [[one.value - one.low for one in found], [one.high - one.value for one in found]]
            values = [one.value for one in found]
            axis.errorbar(where, values, yerr=ends, color=colours[mode], marker="o", elinewidth=0.8, label=title)
        for row in summary.unpruned_rows:
            dashes = {UNPRUNED: (0, (6, 3)), UNPRUNED_RECOVERED: (0, (1, 2))}.get(row.method)
            if dashes is not None:
                axis.axhline(row.metrics["bf1"].value, color=theme.faint, linestyle=dashes, linewidth=1.2)
        axis.set_xticks(range(len(summary.levels)), summary.levels, fontsize=8)
        axis.set_title(name)
    axes[0].set_ylabel("BF1")
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="upper center", bbox_to_anchor=(0.5, 0.02), ncols=1)
    figure.tight_layout(w_pad=1.6)
    return figure
