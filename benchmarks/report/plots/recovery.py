"""Figures of recovered models: size against contour, Boundary F1 against steps, and loss curves."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure

from ...runner.store import NO_LEVEL
from ..summary import Summary
from .style import SUBJECT_COLOUR, Theme, ends_of, legend_beside, looks, panels

_WINDOW = 10
_PANELS_A_ROW = 4
_LINES = ("-", (0, (4, 1.5)), (0, (1, 1.5)))


def size_against_contour(summary: Summary, theme: Theme) -> Figure:
    """Draw BF1 against the parameters left, a line a mode, with the interval of each point."""
    figure, ((axis,),) = panels((8.6, 4.6))
    modes = list(summary.modes)
    styles = looks(modes, "one_time" if "one_time" in modes else modes[0])
    for mode, title in summary.modes.items():
        rows = sorted(summary.of_mode(mode), key=lambda row: -row.cost["params"])
        sizes = [row.cost["params"] / 1e6 for row in rows]
        look = styles[mode]
        values, errors = ends_of([row.metrics["bf1"] for row in rows])
        axis.errorbar(sizes, values, yerr=errors, color=look.colour, elinewidth=0.8, alpha=0.45, fmt="none")
        axis.plot(sizes, values, color=look.colour, marker=look.marker, linewidth=look.width, label=title)
    for row, dashes in zip(summary.unpruned_rows, ((0, (1, 2)), (0, (2, 2)), (0, (6, 3)), (0, (1, 0))), strict=False):
        name = row.method.replace("floor_", "floor: ").replace("_", ", ")
        value = row.metrics["bf1"].value
        axis.axhline(value, color=theme.faint, linestyle=dashes, linewidth=1.1, label=name)
    axis.invert_xaxis()
    axis.set_xlabel("encoder parameters left, millions")
    axis.set_ylabel("BF1")
    legend_beside(figure, axis, bbox_to_anchor=(0.99, 0.5))
    figure.tight_layout()
    return figure


def validation_curves(made: Mapping[str, Mapping[str, Any]], theme: Theme) -> Figure | None:
    """Draw BF1 on validation images against the steps of each model's last recovery; None where nothing looked.

    A colour is a level, a line a way to it; dotted: the unpruned model before any step.
    """
    found = {
        tuple(record["place"]): stage
        for record in made.values()
        for stage in record["stages"][-1:]
        if len(stage.get("validations", ())) > 1
    }
    if not found:
        return None
    levels = [level for level in dict.fromkeys(place[2] for place in found) if level != NO_LEVEL]
    colours = {level: look.colour for level, look in looks(levels, "").items()}
    lines = dict(zip(dict.fromkeys(place[0] for place in found), _LINES * len(found), strict=False))
    figure, ((axis,),) = panels((8.6, 4.6))
    for place, stage in found.items():
        mode, _method, level = place[:3]
        rows = stage["validations"]
        name = "unpruned" if level == NO_LEVEL else f"{level}, {mode.replace('_', ' ')}"
        colour = colours.get(level, theme.text)
        steps, scores = [row[0] for row in rows], [row[1] for row in rows]
        label = " ".join([name, *place[3:]])
        axis.plot(steps, scores, color=colour, linestyle=lines[mode], marker=".", linewidth=1.4, label=label)
        axis.plot(*_kept(stage), "o", markersize=9, markerfacecolor="none", color=colour)
        if level == NO_LEVEL:
            axis.axhline(scores[0], color=theme.faint, linestyle=":", linewidth=1.1)
    axis.set_xlabel("optimiser step")
    axis.set_ylabel("BF1 on validation images")
    legend_beside(figure, axis, bbox_to_anchor=(0.99, 0.5))
    figure.tight_layout()
    return figure


def loss_curves(made: Mapping[str, Mapping[str, Any]], theme: Theme) -> Figure | None:
    """Draw each recovery's loss, and its validations on an axis of their own; None where nothing was recovered."""
    found = [
        (record["place"], stage)
        for record in made.values()
        for stage in record["stages"]
        if stage.get("losses", {}).get("loss")
    ]
    if not found:
        return None
    across = min(_PANELS_A_ROW, len(found))
    down = -(-len(found) // across)
    figure, axes = panels((3.1 * across, 2.4 * down), down, across)
    for axis in axes.flat[len(found) :]:
        axis.set_axis_off()
    for axis, (place, stage) in zip(axes.flat, found, strict=False):
        losses = running_mean(stage["losses"]["loss"])
        axis.plot(np.arange(1, len(losses) + 1), losses, color=theme.text, linewidth=1.1)
        mode, _method, level = place[:3]
        name = mode.replace("_", " ") if level == NO_LEVEL else f"{mode.replace('_', ' ')} {level}"
        axis.set_title(" ".join([name, *place[3:]]) + f"\n{stage['name']}", fontsize=8)
        if stage["validations"]:
            steps, scores = [row[0] for row in stage["validations"]], [row[1] for row in stage["validations"]]
            right = axis.twinx()
            right.plot(steps, scores, "o-", color=SUBJECT_COLOUR, markersize=3, linewidth=0.8)
            right.plot(*_kept(stage), "o", markersize=7, markerfacecolor="none", color=SUBJECT_COLOUR)
            right.tick_params(labelsize=7, colors=SUBJECT_COLOUR)
            right.grid(visible=False)
        axis.tick_params(labelsize=7)
    figure.supxlabel("optimiser step", fontsize=9)
    figure.tight_layout()
    return figure


def _kept(stage: Mapping[str, Any]) -> tuple[float, float]:
    """Step and BF1 of what came back: of a look, or, of an average, at the last step."""
    looks = {row[0]: row[1] for row in stage["validations"]}
    step = stage["best_step"]
    return (max(looks), stage["kept"]) if step is None else (step, looks[step])


def running_mean(values: Sequence[float], window: int = _WINDOW) -> npt.NDArray[np.float64]:
    """Mean of each value and up to `window - 1` before it."""
    sums = np.cumsum(np.asarray(values, dtype=np.float64))
    lagged = np.concatenate([np.zeros(min(window, len(sums))), sums[:-window]])
    return (sums - lagged) / np.minimum(np.arange(1, len(sums) + 1), window)
