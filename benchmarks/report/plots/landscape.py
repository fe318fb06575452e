"""Figures of the compression landscape: heat maps with lines of equal parameters, and slices."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage

from ....evaluation.intervals import Interval
from ....pruning.level import Level
from ...runner.settings import CORRECTED
from ...runner.store import NO_LEVEL, UNPRUNED
from ..summary import Summary
from .style import OTHER_COLOUR, Theme, ends_of, legend_beside, panels

_LINES = (20, 30, 40, 50, 60, 70, 80)


def surface(summary: Summary, mode: str, value: str = "bf1") -> pd.DataFrame:
    """A metric, or a share such as `params_removed`, with MLP shares (percent) down and head shares across."""
    records = []
    for row in summary.of_mode(mode):
        level = Level.parse(row.level)
        found = row.metrics[value].value if value in row.metrics else row.cost[value]
        records.append((round(100 * level.neurons), round(100 * level.heads), found))
    return pd.DataFrame(records, columns=["m", "h", "value"]).pivot(index="m", columns="h", values="value")


def map_modes(summary: Summary) -> list[str]:
    """The modes that have a landscape."""
    return [mode for mode in summary.modes if mode in ("own", CORRECTED)]


def lost(summary: Summary) -> dict[str, Interval]:
    """`block_<number>` to the BF1 that the unpruned model has more than it with that block cut."""
    rows = sorted(summary.of_mode("blocks"), key=lambda row: row.method)
    whole = ("any", NO_LEVEL, UNPRUNED)
    found = {row.method: summary.paired(whole, (row.mode, row.level, row.method)) for row in rows}
    return {method: loss for method, loss in found.items() if loss is not None}


def block_losses(summary: Summary, theme: Theme) -> Figure | None:
    """Draw what cutting each block alone costs; None where no block was cut."""
    losses = lost(summary)
    if not losses:
        return None
    figure, ((axis,),) = panels((8.0, 3.2))
    places = np.arange(len(losses))
    values, ends = ends_of(list(losses.values()))
    axis.bar(places, values, width=0.62, color=OTHER_COLOUR)
    axis.errorbar(places, values, yerr=ends, fmt="none", ecolor=theme.text, elinewidth=1.1)
    axis.axhline(0, color=theme.faint, linewidth=1)
    axis.set_xticks(places, [str(int(method.removeprefix("block_"))) for method in losses])
    axis.set_xlabel("block, shallow to deep")
    axis.set_ylabel("BF1 lost")
    axis.grid(axis="x", visible=False)
    figure.tight_layout()
    return figure


def unpruned_bf1(summary: Summary) -> float:
    """BF1 of the unpruned model."""
    return next(row.metrics["bf1"].value for row in summary.unpruned_rows if row.method == UNPRUNED)


def heat_maps(summary: Summary, theme: Theme) -> Figure:
    """Draw BF1 over the grid, a panel a mode, with lines of equal parameters."""
    modes = map_modes(summary)
    figure, (axes,) = panels((1.0 + 5.6 * len(modes), 4.6), 1, len(modes))
    values = {mode: surface(summary, mode) for mode in modes}
    low = min(float(np.nanmin(table.to_numpy())) for table in values.values())
    for axis, mode in zip(axes, modes, strict=True):
        image = _heat(axis, values[mode], low, unpruned_bf1(summary))
        _equal_parameters(axis, surface(summary, mode, "params_removed"))
        axis.set_title(summary.modes[mode])
    axes[0].set_ylabel("MLP neurons removed, %")
    figure.tight_layout(w_pad=2.0)
    bar = figure.colorbar(image, ax=list(axes), label="BF1", fraction=0.05, pad=0.02)
    bar.outline.set_visible(False)
    return figure


def _heat(axis: Axes, table: pd.DataFrame, low: float, high: float) -> AxesImage:
    cells = table.to_numpy()
    image = axis.imshow(cells, origin="lower", cmap="cividis", vmin=low, vmax=max(high, low + 1e-6), aspect="auto")
    axis.set_xticks(range(len(table.columns)), [str(h) for h in table.columns])
    axis.set_yticks(range(len(table.index)), [str(m) for m in table.index])
    axis.set_xlabel("heads removed, %")
    axis.grid(visible=False)
    for (row, column), value in np.ndenumerate(cells):
        if np.isfinite(value):
            dark = value < low + 0.55 * (high - low)
            colour = "white" if dark else "#1a1a1a"
            axis.text(column, row, f"{value:.2f}", ha="center", va="center", fontsize=7.5, color=colour)
    return image


def _equal_parameters(axis: Axes, removed: pd.DataFrame) -> None:
    values = 100 * removed.to_numpy()
    # the grid leaves out the unpruned corner, where nothing is removed
    values = np.where(np.isfinite(values), values, 0.0)
    if min(values.shape) < 2:
        return
    lines = axis.contour(values, levels=_LINES, colors="white", linewidths=1.1, alpha=0.85)
    axis.clabel(lines, fmt="%g %%", fontsize=7, inline=True)


def slices(summary: Summary, theme: Theme) -> Figure:
    """Draw BF1 against the share of heads, one line a share of MLP neurons, a panel a mode."""
    modes = map_modes(summary)
    figure, (axes,) = panels((1.2 + 4.8 * len(modes), 3.8), 1, len(modes), sharey=True)
    for axis, mode in zip(axes, modes, strict=True):
        table = surface(summary, mode)
        shades = np.linspace(0.15, 0.9, len(table.index))
        for shade, (m, values) in zip(shades, table.iterrows(), strict=True):
            colour = _shade(float(shade))
            axis.plot(table.columns, values.to_numpy(), marker="o", markersize=4, color=colour, label=f"MLP {m} %")
        axis.axhline(unpruned_bf1(summary), color=theme.faint, linestyle=(0, (6, 3)), linewidth=1.2)
        axis.set_title(summary.modes[mode])
        axis.set_xlabel("heads removed, %")
    axes[0].set_ylabel("BF1")
    legend_beside(figure, axes[0])
    figure.tight_layout(w_pad=2.0)
    return figure


def _shade(place: float) -> tuple[float, float, float]:
    """Blue for a little, orange for a lot; readable on both backgrounds."""
    start, end = np.array([0.23, 0.49, 0.85]), np.array([0.90, 0.33, 0.18])
    red, green, blue = start + place * (end - start)
    return float(red), float(green), float(blue)
