"""Figures of a summary: metrics against compression, differences, stability of rankings."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import cycle
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from ....evaluation.metrics import HIGHER_IS_BETTER, TITLES
from ....models.groups import FAMILY_NAMES
from ....pruning.plan import Plan
from ...runner.jobs import plan_path
from ...runner.store import UNPRUNED, ResultStore
from ..answer import mode_of, shown_methods
from ..summary import FLOOR_PREFIX, Difference, Row, Summary
from .style import Theme, legend_beside, looks, panels

_SHOWN = ("bf1", "hd95_px")


def compression(summary: Summary, theme: Theme) -> Figure:
    """Draw BF1 and HD95 against the parameters removed: the best few methods, floors, the others faint."""
    mode, strong = mode_of(summary), shown_methods(summary)
    figure, (axes,) = panels((10.4, 4.2), 1, len(_SHOWN))
    for axis, metric in zip(axes, _SHOWN, strict=True):
        _curves(axis, summary, mode, metric, strong, theme)
        _floors(axis, summary, metric, theme)
        axis.set_title(TITLES[metric])
        axis.set_xlabel("encoder parameters removed, %")
        axis.set_ylabel("higher is better" if HIGHER_IS_BETTER[metric] else "lower is better")
    legend_beside(figure, axes[0], labelspacing=0.8)
    figure.tight_layout(w_pad=2.0)
    return figure


def each_method(summary: Summary, theme: Theme) -> Figure | None:
    """Draw BF1 of every method in a panel of its own, a line a mode, the other methods faint; None without any."""
    methods = summary.methods
    if not methods:
        return None
    across = min(4, len(methods))
    down = -(-len(methods) // across)
    figure, axes = panels((2.6 * across, 2.1 * down + 0.5), down, across, sharex=True, sharey=True)
    for axis in axes.flat[len(methods) :]:
        axis.set_axis_off()
    for axis, method in zip(axes.flat, methods, strict=False):
        for other in methods:
            for mode in summary.modes:
                _line(axis, summary, mode, other, "bf1", color=theme.faint, alpha=0.3, linewidth=0.7)
        for (mode, title), line in zip(summary.modes.items(), cycle(_OF_MODES), strict=False):
            colour = looks(methods, summary.subject)[method].colour
            _line(axis, summary, mode, method, "bf1", color=colour, linestyle=line, linewidth=1.9, label=title)
        _floors(axis, summary, "bf1", theme, named=False)
        axis.set_title(method, fontsize=9)
    for axis in axes[-1]:
        axis.set_xlabel("parameters removed, %", fontsize=8)
    for axis in axes[:, 0]:
        axis.set_ylabel("BF1", fontsize=8)
    legend_beside(figure, axes[0, 0])
    figure.tight_layout(w_pad=1.0)
    return figure


_OF_MODES = ("-", (0, (1, 1.2)), (0, (5, 1.5)), (0, (5, 1.5, 1, 1.5)))


def _line(axis: Axes, summary: Summary, mode: str, method: str, metric: str, **drawn: Any) -> list[Row]:
    """Draw a method from the unpruned model through its levels; the rows of the line, none where it has none."""
    rows = [row for row in summary.of_mode(mode) if row.method == method]
    if not rows:
        return []
    rows = [*(row for row in summary.unpruned_rows if row.method == UNPRUNED), *rows]
    rows.sort(key=lambda row: row.cost["params_removed"])
    axis.plot(_removed(rows), [row.metrics[metric].value for row in rows], **drawn)
    return rows


def _removed(rows: Sequence[Row]) -> list[float]:
    return [100 * row.cost["params_removed"] for row in rows]


def _curves(axis: Axes, summary: Summary, mode: str, metric: str, strong: Sequence[str], theme: Theme) -> None:
    faint = {"color": theme.faint, "alpha": 0.45, "linewidth": 0.9, "zorder": 1.2}
    label = "other methods"
    for method in summary.methods:
        if method not in strong and _line(axis, summary, mode, method, metric, label=label, **faint):
            label = "_"  # named once
    styles = looks(summary.methods, summary.subject)
    for method in strong:
        rows = _line(axis, summary, mode, method, metric, label=method, **styles[method].drawn)
        if method == strong[0]:
            low, high = ([getattr(row.metrics[metric], end) for row in rows] for end in ("low", "high"))
            axis.fill_between(_removed(rows), low, high, color=styles[method].colour, alpha=0.14, linewidth=0, zorder=1)


def _floors(axis: Axes, summary: Summary, metric: str, theme: Theme, named: bool = True) -> None:
    floors = [row for row in summary.unpruned_rows if row.method.startswith(FLOOR_PREFIX)]
    highest = max((row.metrics[metric].value for row in floors), default=0.0)
    for row, dashes in zip(floors, ((0, (2, 2)), (0, (6, 3))), strict=False):
        value = row.metrics[metric].value
        axis.axhline(value, color=theme.faint, linestyle=dashes, linewidth=1.2, zorder=1.5)
        if not named:
            continue
        # the upper floor is named above its line and the lower one below, so that they never meet
        shift = {"xytext": (-8, 3)} if value == highest else {"xytext": (-8, -3), "va": "top"}
        name = f"{row.method.removeprefix(FLOOR_PREFIX)} floor"
        axis.annotate(name, (0, value), textcoords="offset points", color=theme.faint, fontsize=8, **shift)


def forest(summary: Summary, theme: Theme, mode: str = "own") -> Figure | None:
    """Draw the subject's differences from each method with their intervals, a panel a level; None without any."""
    found = [d for d in summary.differences if d.mode == mode]
    methods = list(dict.fromkeys(d.method for d in found))
    if not methods:
        return None
    levels = summary.levels
    height = 0.8 + len(_SHOWN) * (0.7 + 0.24 * len(methods))
    figure, axes = panels((10.4, height), len(_SHOWN), len(levels), sharey=True)
    for row, metric in enumerate(_SHOWN):
        for column, level in enumerate(levels):
            axis = axes[row, column]
            own = {d.method: d for d in found if (d.metric, d.level) == (metric, level)}
            _differences(axis, [own.get(method) for method in methods], summary, theme)
            axis.set_yticks(range(len(methods)), methods)
            axis.set_title(level if row == 0 else "")
            axis.set_xlabel(f"Δ {TITLES[metric]}")
            axis.xaxis.set_major_locator(MaxNLocator(4))
        axes[row, 0].set_ylim(len(methods) - 0.4, -0.6)
    figure.tight_layout(w_pad=1.8)
    return figure


def _differences(axis: Axes, differences: list[Difference | None], summary: Summary, theme: Theme) -> None:
    axis.axvline(0, color=theme.faint, linewidth=1)
    axis.grid(axis="y", visible=False)
    colours = looks(summary.methods, summary.subject)
    for place, difference in enumerate(differences):
        if difference is None:
            continue
        value = difference.value
        colour = {"better": colours[summary.subject].colour, "worse": theme.text}.get(difference.verdict, theme.faint)
        axis.plot([value.low, value.high], [place, place], color=colour, linewidth=2, solid_capstyle="round")
        filled = colour if difference.significant else "none"
        axis.plot([value.value], [place], "o", color=colour, markerfacecolor=filled, markersize=5)


def stability(found: Mapping[str, Any], summary: Summary, theme: Theme) -> Figure:
    """Draw the rank correlation with the full calibration sample against the number of samples."""
    samples = found["samples"]
    figure, (axes,) = panels((10.4, 3.2), 1, len(FAMILY_NAMES), sharey=True)
    for axis, family in zip(axes, FAMILY_NAMES, strict=True):
        for method, look in looks(summary.methods, summary.subject).items():
            if method not in found["methods"]:
                continue
            values = [np.nan if v is None else v for v in found["methods"][method][family]["spearman"]]
            axis.plot(samples, values, label=method, **look.drawn)
        axis.set_xscale("log", base=2)
        axis.set_xticks(samples, [str(n) for n in samples])
        axis.minorticks_off()
        axis.set_title(family)
        axis.set_xlabel("calibration samples of each data set")
    axes[0].set_ylabel("rank correlation with all samples")
    legend_beside(figure, axes[0])
    figure.tight_layout(w_pad=2.0)
    return figure


_CELL, _GAP, _BAR_CELLS, _BETWEEN = 6, 1, 4, 2
_MODE, _SEED = "own", 0

Pixels = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Removed:
    """What a plan takes from each block.

    `heads` is (heads, blocks), True for what goes; blocks with fewer heads are filled up with False. `neurons` is
    (blocks,), the share of neurons that goes.
    """

    heads: npt.NDArray[np.bool_]
    neurons: npt.NDArray[np.float64]

    @classmethod
    def of(cls, plan: Plan) -> "Removed":
        """Read a plan."""
        heads = np.zeros((max(block.heads for block in plan.blocks), len(plan.blocks)), dtype=bool)
        for block in plan.blocks:
            heads[: block.heads, block.block] = True
            heads[list(block.keep_heads), block.block] = False
        return cls(heads, np.array([1 - len(block.keep_neurons) / block.neurons for block in plan.blocks]))


def read_plans(store: ResultStore) -> dict[tuple[str, str], Removed]:
    """Read the plans of own quotas and the first seed: (level, method) to what goes."""
    hashes = {
        (result.cell.level, result.cell.method): result.plan
        for result in store.cells()
        if (result.cell.mode, result.cell.seed) == (_MODE, _SEED) and result.plan
    }
    paths = {place: plan_path(store, plan_hash) for place, plan_hash in hashes.items()}
    return {place: Removed.of(Plan.load(path)) for place, path in paths.items() if path.is_file()}


def draw(removed: Removed, colour: str, theme: Theme) -> Pixels:
    """Paint one map: a cell a head, filled where it goes, and below a bar a block as high as the share of neurons."""
    heads, blocks = removed.heads.shape
    pixels = np.zeros(((heads + _BAR_CELLS) * _CELL + _BETWEEN, blocks * _CELL, 4))
    full, empty = (*to_rgb(colour), 1.0), (*to_rgb(theme.empty), 1.0)
    top, height = heads * _CELL + _BETWEEN, _BAR_CELLS * _CELL
    for block in range(blocks):
        across = slice(block * _CELL, (block + 1) * _CELL - _GAP)
        for head in range(heads):
            down = slice(head * _CELL, (head + 1) * _CELL - _GAP)
            pixels[down, across] = full if removed.heads[head, block] else empty
        filled = round(float(removed.neurons[block]) * height)
        pixels[top:, across] = empty
        if filled:
            pixels[-filled:, across] = full
    return pixels


def removed_map(plans: Mapping[tuple[str, str], Removed], summary: Summary, theme: Theme) -> Figure | None:
    """Draw all maps, methods across and levels down; None where no plan is stored."""
    styles = looks(summary.methods, summary.subject)
    methods = [method for method in summary.methods if any(place[1] == method for place in plans)]
    levels = [level for level in summary.levels if any(place[0] == level for place in plans)]
    if not methods:
        return None
    size = (1.14 * len(methods) + 0.5, 1.75 * len(levels) + 0.5)
    figure, axes = panels(size, len(levels), len(methods))
    for row, level in enumerate(levels):
        for column, method in enumerate(methods):
            axis = axes[row, column]
            axis.set_axis_off()
            if (level, method) in plans:
                axis.imshow(draw(plans[level, method], styles[method].colour, theme), interpolation="nearest")
            if row == 0:
                axis.set_title(method.replace("_", "\n"), fontsize=8, loc="center", va="bottom")
        axes[row, 0].text(-0.12, 0.5, level, rotation=90, transform=axes[row, 0].transAxes, va="center", ha="right")
    figure.tight_layout(pad=0.3, w_pad=0.6, h_pad=2.2)
    return figure
