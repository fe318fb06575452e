"""Figures of the automatic split: its way through the plane of heads and MLP, and what it is worth."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from ....evaluation.metrics import TITLES
from ...runner.store import UNPRUNED
from ..summary import Summary
from .style import OTHER_COLOUR, SUBJECT_COLOUR, Theme, panels

_UNITS = {"params": "parameters", "flops": "FLOPs"}
_LOOKS = {
    "fixed": {"color": OTHER_COLOUR, "marker": "s", "label": "the paper's levels"},
    "automatic": {"color": SUBJECT_COLOUR, "marker": "o", "label": "automatic"},
}


def path_picture(paths: Mapping[str, Any], theme: Theme) -> Figure:
    """Draw the longest path and the end of every other one, with lines of equal size, a panel a unit."""
    figure, (axes,) = panels((9.6, 4.6), 1, len(paths["paths"]), sharey=True)
    for axis, unit in zip(axes, _UNITS, strict=True):
        of_unit = paths["paths"][unit]
        _lines_of_equal_size(axis, paths["unit_cost"][unit], theme)
        longest = max(of_unit.values(), key=lambda path: len(path["steps"]))
        way = 100 * np.array([[0, 0], *([step["heads"], step["neurons"]] for step in longest["steps"])])
        axis.plot(*way.T, color=SUBJECT_COLOUR, linewidth=1.6, marker="o", markersize=3)
        for level, found in of_unit.items():
            fixed = 100 * np.array(paths["levels"][level])
            end = 100 * np.array([found["steps"][-1]["heads"], found["steps"][-1]["neurons"]])
            axis.plot(*np.stack([fixed, end]).T, color=theme.faint, linewidth=1, linestyle=(0, (2, 2)))
            axis.plot(*fixed, "s", color=OTHER_COLOUR, markersize=7)
            axis.plot(*end, "o", color=SUBJECT_COLOUR, markersize=7)
            axis.annotate(level, fixed, textcoords="offset points", xytext=(7, -11), fontsize=8.5)
        axis.set_title(f"At equal {_UNITS[unit]}")
        axis.set_xlabel("heads gone, %")
        axis.set(xlim=(-2, 85), ylim=(-2, 85))
    axes[0].set_ylabel("MLP neurons gone, %")
    for look in _LOOKS.values():
        axes[0].plot([], [], linestyle="", **look)
    axes[0].legend(loc="lower right", fontsize=8.5)
    figure.tight_layout(w_pad=2.0)
    return figure


def _lines_of_equal_size(axis: Any, cost: Mapping[str, float], theme: Theme) -> None:
    """Lines along which about as much is removed, from what all heads and all neurons cost."""
    for removed in (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7):
        heads = np.linspace(0, 0.85, 50)
        neurons = (removed - heads * cost["heads"]) / cost["neurons"]
        axis.plot(100 * heads, 100 * neurons, color=theme.faint, linewidth=0.7, alpha=0.5, zorder=0)
        # beside the axis, where the path often runs
        if 0 <= neurons[2] <= 0.83:
            place = (100 * heads[2], 100 * neurons[2])
            axis.annotate(f"{100 * removed:.0f}", place, fontsize=7.5, color=theme.faint, va="bottom")


def budget(summary: Summary, theme: Theme) -> Figure:
    """Draw BF1 and HD95 of both ways against what is removed, with intervals, a column a unit."""
    modes = {mode: summary.modes[mode] for mode in _UNITS if mode in summary.modes}
    figure, axes = panels((9.6, 6.0), 2, len(modes), sharex="col", sharey="row")
    whole = next(row for row in summary.unpruned_rows if row.method == UNPRUNED)
    for column, (mode, title) in enumerate(modes.items()):
        for row, metric in enumerate(("bf1", "hd95_px")):
            axis = axes[row, column]
            axis.axhline(whole.metrics[metric].value, color=theme.faint, linewidth=1, linestyle=(0, (4, 3)))
            for shift, (name, look) in zip((-0.35, 0.35), _LOOKS.items(), strict=True):
                rows = [r for level in summary.levels for r in summary.of(mode, level) if r.method == name]
                x = [100 * r.cost[f"{mode}_removed"] + shift for r in rows]
                values = np.array([[getattr(r.metrics[metric], end) for end in ("low", "value", "high")] for r in rows])
                if not len(rows):
                    continue
                axis.plot(x, values[:, 1], markersize=5, linewidth=1.6, **look)
                axis.vlines(x, values[:, 0], values[:, 2], color=look["color"], linewidth=1.6, alpha=0.5)
            axis.set_title(title if row == 0 else "")
        axes[-1, column].set_xlabel(f"{_UNITS[mode]} removed, %")
    for row, metric in enumerate(("bf1", "hd95_px")):
        axes[row, 0].set_ylabel(TITLES[metric])
    axes[0, 0].legend(fontsize=8.5)
    figure.tight_layout(w_pad=2.0)
    return figure
