"""The summary as tables for the terminal and Markdown."""

import sys
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from ...evaluation.intervals import CONFIDENCE, INDICATIVE_BELOW, Interval
from ...evaluation.metrics import HIGHER_IS_BETTER, TITLES
from ..runner.settings import CORRECTED, CORRECTED_FROM
from .summary import Row, Summary

_WIDTH_WHEN_PIPED = 200


@dataclass(frozen=True)
class Grid:
    """A titled table; below it the lines of its footer.

    `sections` are the numbers of the rows that a rule is drawn above, `left` how many columns from the first are
    aligned left, the others right; `methods` names the method of each row, which the page gives its colour, and `best`
    the row and column of the cells that the page underlines.
    """

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    footer: Sequence[str] = ()
    sections: Collection[int] = ()
    left: int = 1
    methods: Sequence[str] = ()
    best: Collection[tuple[int, int]] = ()

    def markdown(self) -> str:
        """Write title, table and footer as Markdown."""
        cells = [
            list(self.columns),
            ["---"] * self.left + ["---:"] * (len(self.columns) - self.left),
            *map(list, self.rows),
        ]
        lines = ["| " + " | ".join(map(_plain, row)) + " |" for row in cells]
        return "\n".join([f"### {self.title}", "", *lines, "", *(f"{line}  " for line in self.footer), ""])

    def show(self, console: Console | None = None) -> None:
        """Print the table; output that is no terminal is not folded to a terminal's width."""
        console = console or Console(width=None if sys.stdout.isatty() else _WIDTH_WHEN_PIPED)
        table = Table(title=Text(self.title), box=box.SIMPLE_HEAD, title_justify="left")
        for place, heading in enumerate(self.columns):
            table.add_column(Text(heading), justify="left" if place < self.left else "right")
        for place, row in enumerate(self.rows):
            if place in self.sections:
                table.add_section()
            table.add_row(*map(Text, row))
        console.print(table)
        for line in self.footer:
            console.print(Text(line, style="dim"))


def _plain(cell: str) -> str:
    """A cell of Markdown: one line, in which nothing is a column or a tag."""
    return " ".join(cell.split()).replace("|", "\\|").replace("<", "&lt;") if cell else cell


BELOW_FLOOR = "▼"
_DIGITS = {"hd95_px": 2, "hd95_percent": 2}


def number(metric: str, value: float, sign: bool = False) -> str:
    """Write a metric with its usual digits."""
    return f"{value:{'+' if sign else ''}.{_DIGITS.get(metric, 4)}f}"


def span(metric: str, value: Interval, sign: bool = False) -> str:
    """Write an interval with one digit less than its value."""
    digits = _DIGITS.get(metric, 4) - 1
    mark = "+" if sign else ""
    return f"[{value.low:{mark}.{digits}f}, {value.high:{mark}.{digits}f}]"


def estimate(metric: str, value: Interval | None, sign: bool = False) -> str:
    """Write a metric, or a difference, with its interval; a dash where there is none."""
    return "–" if value is None else f"{number(metric, value.value, sign)} {span(metric, value, sign)}"


def metric_cells(row: Row, metrics: Iterable[str], intervals: Collection[str]) -> list[str]:
    """Write metrics of a row, some of them with their intervals, each with a mark where a floor is better."""
    cells = []
    for metric in metrics:
        found = row.metrics[metric]
        text = estimate(metric, found) if metric in intervals else number(metric, found.value)
        cells.append(f"{BELOW_FLOOR} {text}" if metric in row.below_floor else text)
    return cells


def size_cells(row: Row) -> list[str]:
    """Write what is left of an encoder, millions of parameters and billions of FLOPs; dashes for a floor."""
    if "params" not in row.cost:
        return ["–", "–"]
    return [f"{row.cost['params'] / 1e6:.2f}", f"{row.cost['flops'] / 1e9:.2f}"]


def in_blocks(blocks: Iterable[tuple[str, Sequence[Sequence[str]]]]) -> tuple[list[list[str]], list[int]]:
    """Join blocks of rows, each with its name before the first of them, and say before which rows a rule belongs."""
    rows: list[list[str]] = []
    starts = []
    for name, of_block in blocks:
        starts.append(len(rows))
        rows += [[name if place == 0 else "", *row] for place, row in enumerate(of_block)]
    return rows, starts[1:]


def percent(fraction: float | None) -> str:
    """Write a share as percent; a dash where there is none."""
    return "–" if fraction is None else f"{100 * fraction:.1f}"


def label(row: Row) -> str:
    """Name of a row: the method, with the number of seeds where it is a mean."""
    name = row.method.replace("floor_", "floor: ")
    if row.mode == CORRECTED:
        name = f"{name}, corrected"
    return f"{name} (mean of {row.seeds})" if row.seeds > 1 else name


def rows_of(summary: Summary, mode: str, level: str) -> list[Row]:
    """Rows of a mode and level; under own quotas each is followed by the same plan corrected, where there is one."""
    if mode != CORRECTED_FROM:
        return summary.of(mode, level)
    corrected = {row.method: row for row in summary.of(CORRECTED, level)}
    pairs = ((row, corrected.get(row.method)) for row in summary.of(mode, level))
    return [row for pair in pairs for row in pair if row is not None]


def comparison(summary: Summary, mode: str, *, intervals: Sequence[str] = tuple(HIGHER_IS_BETTER)) -> Grid:
    """The main table of one quota mode: the paper's Table 5, after floors and unpruned model.

    `intervals` names the metrics that are shown with theirs.
    """
    of_levels = {"none": summary.unpruned_rows}
    of_levels |= {level: rows_of(summary, mode, level) for level in summary.levels}
    rows, sections = in_blocks((level, [_cells(row, intervals) for row in of]) for level, of in of_levels.items())
    methods, best = list[str](), set[tuple[int, int]]()
    for level, found in of_levels.items():
        if level != "none":
            best |= {(len(methods) + place, _FIRST_METRIC + metric) for place, metric in _best(summary, found)}
        methods += [row.method for row in found]
    return Grid(
        f"Macro average, no recovery, {summary.modes[mode]}",
        ["level", "method", "params -%", "FLOPs -%", *TITLES.values()],
        rows,
        footer(summary, mode),
        sections,
        left=2,
        methods=methods,
        best=best,
    )


_FIRST_METRIC = 4


def _best(summary: Summary, rows: Sequence[Row]) -> Iterator[tuple[int, int]]:
    """Row and metric, by number, of the best values of a level and of those that cannot be told from them.

    Nothing where groups are too few to tell, where no difference shows, or where the best is worse than a floor;
    corrected models are looked at apart.
    """
    if summary.indicative:
        return
    for column, (metric, higher) in enumerate(HIGHER_IS_BETTER.items()):
        for mode in {row.mode for row in rows}:
            of_mode = {place: row for place, row in enumerate(rows) if row.mode == mode}
            first = (max if higher else min)(of_mode.values(), key=lambda row: row.metrics[metric].value)
            alike = [place for place, row in of_mode.items() if summary.alike(first, row, metric)]
            if len(alike) < len(of_mode) and metric not in first.below_floor:
                yield from ((place, column) for place in alike)


def _cells(row: Row, intervals: Sequence[str]) -> list[str]:
    removed = [percent(row.cost.get(f"{unit}_removed")) for unit in ("params", "flops")]
    return [label(row), *removed, *metric_cells(row, HIGHER_IS_BETTER, intervals)]


def footer(summary: Summary, mode: str) -> list[str]:
    """What a table's reader must know: intervals, images, groups, empty masks, marks."""
    rows = [*summary.unpruned_rows, *(row for row in summary.rows if row.mode == mode)]
    counted = ", ".join(
        f"{name} {summary.images[name]} images in {count} groups" for name, count in summary.groups.items()
    )
    lines = [
        *_notice(summary),
        f"{BELOW_FLOOR} worse than a floor, which uses no network. BF1: within {summary.tolerance_px:g} px of the 256 "
        "grid; at 1 and 3 px in comparison.csv. HD95: lower is better.",
        f"[low, high]: {CONFIDENCE:.0%} bootstrap over groups within each data set"
        + (f", nested over {summary.calibration_draws} calibration samples" if summary.calibration_draws > 1 else "")
        + f". {counted}.",
        empty_line(rows, sum(summary.images.values())),
    ]
    lines += _indicative(summary)
    if missing := [" ".join(place) for place in summary.incomplete if place[0] in (mode, "any")]:
        lines.append(f"Not finished, and left out: {', '.join(missing)}.")
    return lines


def _notice(summary: Summary) -> list[str]:
    return [f"{summary.notice[0].upper()}{summary.notice[1:]}."] if summary.notice else []


def _indicative(summary: Summary) -> list[str]:
    few = ", ".join(summary.indicative)
    return [f"Intervals are indicative: fewer than {INDICATIVE_BELOW} groups in {few}."] if few else []


def empty_line(rows: Sequence[Row], images: int) -> str:
    """Count the empty masks of a table's rows and name the methods that they come from."""
    one, both = (sum(row.empty[kind] for row in rows) for kind in ("one", "both"))
    masks = sum(images * row.seeds for row in rows)
    by_row = sorted(((row.empty["one"], f"{row.method} {row.level}") for row in rows if row.empty["one"]), reverse=True)
    whose = f" (most: {', '.join(f'{name} {count}' for count, name in by_row[:3])})" if by_row else ""
    return (
        f"Empty masks: of {masks} pairs, {one} with one of the two empty{whose}, counted as Dice = IoU = BF1 = 0 and "
        f"HD95 = the diagonal; {both} with both empty, counted as perfect."
    )


def ranks(summary: Summary) -> Grid:
    """The subject's rank at each level and mode, whatever it is, and than how many others it is better or worse."""
    rows = []
    for mode, title in summary.modes.items():
        for level in summary.levels:
            own = {rank.metric: rank for rank in summary.ranks if (rank.mode, rank.level) == (mode, level)}
            if own:
                places = [f"{own[metric].rank} of {own[metric].of}" for metric in HIGHER_IS_BETTER]
                rows.append([title, level, *places, *_verdicts(summary, mode, level)])
    return Grid(
        f"Rank of {summary.subject} (1 is best)",
        ["quotas", "level", *TITLES.values(), "BF1 better", "BF1 worse"],
        rows,
        [
            *_notice(summary),
            "BF1 better, worse: than how many methods significantly: the paired interval excludes 0, Holm's p < 0.05; "
            f"none below {INDICATIVE_BELOW} groups.",
            *_indicative(summary),
        ],
        left=2,
    )


def _verdicts(summary: Summary, mode: str, level: str) -> list[str]:
    found = [d.verdict for d in summary.differences if (d.mode, d.level, d.metric) == (mode, level, "bf1")]
    return [f"{found.count(verdict)} of {len(found)}" for verdict in ("better", "worse")]


def differences(summary: Summary, mode: str) -> Grid:
    """The subject minus each other method, with intervals and Holm's p."""
    of_levels: dict[str, dict[str, list[str]]] = {level: {} for level in summary.levels}
    for d in summary.differences:
        if d.mode == mode:
            said = f"p {d.p_holm:.3f}, {d.verdict}" if d.significant else d.verdict
            cell = f"{estimate(d.metric, d.value, True)} {said}"
            of_levels[d.level].setdefault(d.method, []).append(cell)
    rows, sections = in_blocks(
        (level, [[method, *cells] for method, cells in found.items()]) for level, found in of_levels.items()
    )
    return Grid(
        f"{summary.subject} minus each method, {summary.modes[mode]}",
        ["level", "method", *TITLES.values()],
        rows,
        [
            *_notice(summary),
            "Paired bootstrap over groups; p corrected by Holm over the methods of a level and metric; not "
            f"significant: the interval holds 0, or p is 0.05 or more; no verdict below {INDICATIVE_BELOW} groups.",
            *_indicative(summary),
        ],
        sections,
        left=2,
    )


def by_dataset(summary: Summary, metric: str) -> Grid:
    """One metric on each data set, own quotas."""
    names = list(summary.groups)
    rows = [
        [row.level, label(row), *(_on_dataset(row, metric, name) for name in names)]
        for row in summary.rows
        if row.mode in ("any", "own")
    ]
    return Grid(
        f"{TITLES[metric]} by data set, own quotas",
        ["level", "method", *names],
        rows,
        [
            *_notice(summary),
            f"{BELOW_FLOOR} worse than a floor.",
            empty_line([row for row in summary.rows if row.mode in ("any", "own")], sum(summary.images.values())),
        ],
        left=2,
    )


def _on_dataset(row: Row, metric: str, dataset: str) -> str:
    text = number(metric, row.by_dataset[dataset][metric])
    return f"{BELOW_FLOOR} {text}" if metric in row.below_floor_on[dataset] else text
