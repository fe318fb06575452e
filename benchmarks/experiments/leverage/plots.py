"""Figures of the sweep and of the test of Theorem 3.3."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.colors import Colormap, LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from ....pruning.level import Level
from ...report.plots.style import OTHER_COLOUR, SUBJECT_COLOUR, THEMES, Theme, panels
from .contours import LARGE, SMALL, STEPS, picture_steps
from .report import FAMILY_TITLES, band_title
from .sweep import BANDS, HEADLINE

COLOURS = {"heads": SUBJECT_COLOUR, "neurons": OTHER_COLOUR}
_ONE = {"heads": "head", "neurons": "MLP"}
_MARKERS = {"heads": "o", "neurons": "s"}
_SHOWN_PX = 6.0  # displacements of a scatter, to either side
_AROUND_PX = 14  # of the picture, around the contour

Points = Mapping[str, npt.NDArray[Any]]


def leverage(steps: pd.DataFrame, found: Mapping[str, Any], theme: Theme) -> Figure:
    """Draw the leverage of every valid step, a panel a band, a column a family."""
    figure, (axes,) = panels((10.4, 3.5), 1, len(BANDS), sharey=True)
    rng = np.random.default_rng(0)
    for axis, band in zip(axes, BANDS, strict=True):
        for place, family in enumerate(FAMILY_TITLES):
            values = steps.loc[steps["family"] == family, f"{band}_q95"].to_numpy(float)
            spread = place + rng.uniform(-0.2, 0.2, len(values))
            axis.plot(spread, values, _MARKERS[family], color=COLOURS[family], markersize=4.5, alpha=0.6, mew=0)
            median = found["bands"][band][family]["value"]
            axis.plot([place - 0.33, place + 0.33], [median, median], color=COLOURS[family], linewidth=2.4)
            axis.annotate(f"{median:.2f}", (place + 0.36, median), va="center", fontsize=8.5)
        ratio = found["bands"][band]["blr"]["value"]
        axis.set_title(f"{band_title(band)}\nBLR {ratio:.2f}", fontsize=9.5)
        axis.set_xticks(range(len(FAMILY_TITLES)), list(FAMILY_TITLES.values()))
        axis.set_xlim(-0.5, 1.75)
        axis.set_yscale("log")
        axis.grid(axis="x", visible=False)
    _plain_log(axes[0].yaxis)
    axes[0].set_ylabel("boundary leverage, px per percent saved")
    figure.tight_layout(w_pad=1.2)
    return figure


def _plain_log(axis: Axis) -> None:
    """Write the ticks of a logarithmic axis as numbers; powers of ten alone where it is long."""
    low, high = axis.get_view_interval()
    bases = (1, 2, 5) if high / low < 1e3 else (1,)
    ticks = [base * 10.0**power for power in range(-6, 6) for base in bases]
    shown = [tick for tick in ticks if low <= tick <= high]
    axis.set_ticks(shown, labels=[f"{tick:g}" for tick in shown])
    axis.set_minor_locator(NullLocator())


def levels(steps: pd.DataFrame, theme: Theme) -> Figure:
    """Draw each family's leverage against its own level before the step, a line a level of the other family."""
    figure, (axes,) = panels((9.2, 3.7), 1, 2, sharey=True)
    for axis, (family, title) in zip(axes, FAMILY_TITLES.items(), strict=True):
        own = steps[steps["family"] == family].drop_duplicates("move")
        starts = [Level.parse(text) for text in own["start"]]
        mine = np.array([getattr(level, family) for level in starts])
        other_family = next(name for name in FAMILY_TITLES if name != family)
        other = np.array([getattr(level, other_family) for level in starts])
        for shade, share in zip(np.linspace(0.35, 1, len(set(other))), sorted(set(other)), strict=True):
            line = other == share
            values = own[f"{HEADLINE}_q95"].to_numpy(float)[line]
            shared = bool(steps["move"].isin(own["move"][line]).sum() > line.sum())
            more = " and more" if shared else ""
            label = f"{FAMILY_TITLES[other_family]} {100 * share:g} %{more}"
            look = {"marker": _MARKERS[family], "color": COLOURS[family], "alpha": shade, "markersize": 4}
            axis.plot(100 * mine[line], values, label=label, **look)
        axis.set_yscale("log")
        axis.set_title(f"{_ONE[family]} steps")
        axis.set_xlabel(f"{title} gone before the step, %")
        axis.legend(fontsize=8, title="gone of the other", title_fontsize=8)
    _plain_log(axes[0].yaxis)
    axes[0].set_ylabel("boundary leverage, px per percent")
    figure.tight_layout(w_pad=2.0)
    return figure


def paired(steps: pd.DataFrame, theme: Theme) -> Figure | None:
    """Draw head leverage against MLP leverage for every cell from which both are valid; None without any."""
    sides = [steps[steps["family"] == family].set_index("start") for family in ("neurons", "heads")]
    cells = [cell for cell in sides[0].index if cell in sides[1].index]
    if not cells:
        return None
    figure, ((axis,),) = panels((4.6, 4.2))
    x, y = (side.loc[cells, f"{HEADLINE}_q95"].to_numpy(float) for side in sides)
    bars = [
        np.abs(np.stack([side.loc[cells, f"{HEADLINE}_q95_{end}"].to_numpy(float) for end in ("low", "high")]) - middle)
        for side, middle in zip(sides, (x, y), strict=True)
    ]
    axis.errorbar(x, y, xerr=bars[0], yerr=bars[1], fmt="none", ecolor=theme.faint, elinewidth=0.9, alpha=0.7)
    axis.plot(x, y, "o", color=COLOURS["heads"], markersize=5)
    ends = min(x.min(), y.min()) * 0.8, max(x.max(), y.max()) * 1.25
    axis.plot(ends, ends, color=theme.faint, linestyle=(0, (4, 3)), linewidth=1.2)
    axis.set(xscale="log", yscale="log", xlim=ends, ylim=ends)
    axis.set(xlabel="MLP step, px per percent", ylabel="head step, px per percent")
    _plain_log(axis.xaxis)
    _plain_log(axis.yaxis)
    axis.set_title(f"Paired cells: {int((y > x).sum())} of {len(cells)} above the line")
    figure.tight_layout()
    return figure


def damage(steps: pd.DataFrame, theme: Theme) -> Figure:
    """Draw what each distinct step does to the metrics against its leverage."""
    figure = Figure(figsize=(9.2, 3.6))
    axes = figure.subplots(1, 2)
    once = steps.drop_duplicates("move")
    for axis, (metric, name) in zip(axes, (("bf1", "BF1 loss"), ("hd95_px", "HD95 rise, px,")), strict=True):
        for family, title in FAMILY_TITLES.items():
            own = once[once["family"] == family]
            values = own[f"{HEADLINE}_q95"], own[f"{metric}_damage"]
            axis.plot(*values, _MARKERS[family], color=COLOURS[family], label=title, markersize=5, alpha=0.8, mew=0)
        axis.axhline(0, color=theme.faint, linewidth=1)
        axis.set_xscale("log")
        _plain_log(axis.xaxis)
        axis.set_xlabel("boundary leverage, px per percent")
        axis.set_ylabel(f"{name} per percent")
    axes[0].legend(loc="upper left")
    figure.tight_layout(w_pad=2.0)
    return figure


def theorem_figure(points: Points, rows: Sequence[Mapping[str, Any]], theme: Theme) -> Figure:
    """Draw predicted against measured displacements as densities, for a small and a large step of each family."""
    shown = [(place, step) for place, step in enumerate(STEPS) if step.size in (SMALL, LARGE)]
    figure, (axes,) = panels((10.4, 3.1), 1, len(shown), sharex=True, sharey=True)
    for axis, (place, step) in zip(axes, shown, strict=True):
        own = (points["step"] == place) & np.isfinite(points["measured"])
        x, y = points["predicted"][own], points["measured"][own]
        extent = (-_SHOWN_PX, _SHOWN_PX, -_SHOWN_PX, _SHOWN_PX)
        if len(x):
            axis.hexbin(x, y, gridsize=34, extent=extent, bins="log", cmap=_map(theme), mincnt=1, linewidths=0)
        axis.plot(extent[:2], extent[:2], color=theme.text, linestyle=(0, (4, 3)), linewidth=1)
        found = rows[place]["pearson"]["value"]
        title = f"{FAMILY_TITLES[step.family]}, {100 * step.size:g} % of the units"
        axis.set_title(title + (f"\nPearson {found:.2f}" if found is not None else ""), fontsize=9.5)
        axis.set(xlim=extent[:2], ylim=extent[2:], aspect="equal", xlabel="predicted, px")
        axis.set(xticks=(-6, -3, 0, 3, 6), yticks=(-6, -3, 0, 3, 6))
    axes[0].set_ylabel("measured, px")
    figure.tight_layout(w_pad=1.2)
    return figure


def _map(theme: Theme) -> Colormap:
    """Colours from few points, which stand out from the background already, to many."""
    colours = [colormaps["viridis"](share) for share in np.linspace(0.8, 0.0, 32)]
    dark = theme is THEMES["dark"]
    return LinearSegmentedColormap.from_list("points", colours[::-1] if dark else colours)


def order(rows: Sequence[Mapping[str, Any]], theme: Theme) -> Figure:
    """Draw the correlation, and the error beside the movement itself, against the size of the step."""
    figure, (axes,) = panels((9.2, 3.4), 1, 2)
    for family, title in FAMILY_TITLES.items():
        own = [row for row in rows if row["family"] == family and row["pearson"]["value"] is not None]
        sizes = [100 * row["size"] for row in own]
        look = {"color": COLOURS[family], "marker": _MARKERS[family]}
        for name, style in (("pearson", "-"), ("spearman", ":")):
            values = [row[name]["value"] for row in own]
            axes[0].plot(sizes, values, style, label=f"{title}, {name.capitalize()}", **look)
        low, high = ([row["pearson"][end] for row in own] for end in ("low", "high"))
        axes[0].fill_between(sizes, low, high, color=COLOURS[family], alpha=0.14, linewidth=0)
        for name, style, label in (("moved_px", "-", "moved"), ("error_px", ":", "error of the prediction")):
            values = [row[name] for row in own]
            axes[1].plot(sizes, values, style, label=f"{title}, {label}", **look)
    for axis in axes:
        axis.set_xscale("log")
        axis.set_xticks([100 * step.size for step in STEPS], [f"{100 * step.size:g}" for step in STEPS])
        axis.minorticks_off()
        axis.set_xlabel("units of the family that go, %")
    axes[0].set_ylabel("correlation with the measured displacement")
    axes[1].set_yscale("log")
    axes[1].set_ylabel("median, px")
    axes[0].legend(fontsize=8)
    axes[1].legend(fontsize=8, loc="lower right")
    axes[1].set_ylim(bottom=axes[1].get_ylim()[0] / 30)
    _plain_log(axes[1].yaxis)
    figure.tight_layout(w_pad=2.0)
    return figure


def contour(points: Points, theme: Theme) -> Figure | None:
    """Draw one image with predicted displacements above measured ones; None where no image has a contour."""
    if "picture_points" not in points:
        return None
    shown = picture_steps(points)
    where = points["picture_points"].astype(float)
    figure = Figure(figsize=(10.4, 5.0), layout="compressed")
    axes = figure.subplots(2, len(shown), squeeze=False)
    for column, (step, moved) in enumerate(shown):
        limit = max(0.5, float(np.nanquantile(np.abs(moved[1]), 0.95))) if np.isfinite(moved[1]).any() else 1.0
        image = points["picture_image"]
        drawn = [_on_image(axis, image, where, v, limit) for axis, v in zip(axes[:, column], moved, strict=True)]
        figure.colorbar(drawn[0], ax=axes[:, column], orientation="horizontal", fraction=0.06, pad=0.02, label="px")
        axes[0, column].set_title(f"{FAMILY_TITLES[step.family]}, {100 * step.size:g} %", fontsize=9.5)
    for row, name in enumerate(("predicted", "measured")):
        axes[row, 0].text(-0.06, 0.5, name, rotation=90, transform=axes[row, 0].transAxes, va="center", ha="right")
    return figure


def _on_image(
    axis: Axes, image: npt.NDArray[Any], where: npt.NDArray[Any], values: npt.NDArray[Any], limit: float
) -> Any:
    low, high = where.min(axis=0) - _AROUND_PX, where.max(axis=0) + _AROUND_PX
    axis.imshow(image, cmap="gray", vmin=0, vmax=255, alpha=0.75)
    there = np.isfinite(values)
    axis.scatter(where[~there, 1], where[~there, 0], s=7, color="#a0a0a0", linewidths=0)
    drawn = axis.scatter(
        where[there, 1], where[there, 0], s=9, c=values[there], cmap="coolwarm", vmin=-limit, vmax=limit, linewidths=0
    )
    axis.set_xlim(max(low[1], 0), min(high[1], image.shape[1] - 1))
    axis.set_ylim(min(high[0], image.shape[0] - 1), max(low[0], 0))
    axis.set_axis_off()
    return drawn
