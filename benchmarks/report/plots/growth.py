"""The figure of `benchmarks.speed.growth`: a panel an axis, times at each count and the line through them."""

from collections.abc import Mapping
from typing import Any

from matplotlib.figure import Figure

from .style import SUBJECT_COLOUR, panels

_LINE = "#8d99a6"
_ACROSS = 3


def draw_growth(axes: Mapping[str, Mapping[str, Any]]) -> Figure:
    """Draw the axes as `speed.growth.measure` gives them: medians with lowest and highest, and each line."""
    down = -(-len(axes) // _ACROSS)
    figure, places = panels((8.4, 2.5 * down), down, _ACROSS)
    for place in list(places.flat)[len(axes) :]:
        place.set_visible(False)
    for place, (name, axis) in zip(places.flat, axes.items(), strict=False):
        counts, times = axis["counts"], axis["times"]
        below = [max(0.0, time - low) for time, (low, _) in zip(times, axis["spread"], strict=True)]
        above = [max(0.0, high - time) for time, (_, high) in zip(times, axis["spread"], strict=True)]
        ends = [0, max(counts)]
        place.plot(ends, [axis["fixed"] + axis["each"] * end for end in ends], color=_LINE, linewidth=1.4, zorder=2)
        place.errorbar(
            counts, times, yerr=[below, above], fmt="o", color=SUBJECT_COLOUR, markersize=4.5, linewidth=1, zorder=3
        )
        place.set_title(name, fontsize=9)
        place.set_xlabel(axis["unit"], fontsize=8.5)
        place.set_xticks(counts)
        place.set_xlim(left=0)
        place.set_ylim(bottom=0)
        place.annotate(
            f"{axis['each']:.2f} each", (0.05, 0.88), xycoords="axes fraction", fontsize=8.5, color=SUBJECT_COLOUR
        )
    for row in places:
        row[0].set_ylabel("forward + backward\npasses of one image", fontsize=8.5)
    figure.tight_layout()
    return figure
