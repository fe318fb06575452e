"""How figures look: one colour, marker and line a method, a light and a dark theme, SVG out."""

import io
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ....evaluation.intervals import Interval


@dataclass(frozen=True)
class Theme:
    """Colours that depend on the background."""

    text: str
    """Of labels and ticks."""
    faint: str
    """Of grids, frames and floors."""
    empty: str
    """Of what is not there: units that stay, in the map."""
    background: str


THEMES = {
    # also for files that stand by themselves and do not know what is behind them
    "light": Theme("#25303b", "#8b97a3", "#e3e8ec", "#ffffff"),
    "dark": Theme("#dfe6ec", "#7d8a96", "#2c3742", "#182027"),
}

SUBJECT_COLOUR = "#e5532d"
OTHER_COLOUR = "#3b7dd8"
"""Of what the subject is held against, where there is one such thing."""
_COLOURS = (
    *("#8d99a6", "#b28a4c", OTHER_COLOUR, "#1fa39a", "#8e6bd1"),
    *("#5fa03a", "#d16ba5", "#c9a000", "#2aa5d6", "#9b5b4f"),
)
_MARKERS = "osD^vPX*<>hp"
_LINES = ("-", (0, (4, 1.5)), (0, (1, 1.5)))  # when colours come round again


@dataclass(frozen=True)
class Look:
    """How one method is drawn."""

    colour: str
    marker: str
    line: Any
    width: float
    order: int

    @property
    def drawn(self) -> dict[str, Any]:
        """What matplotlib's `plot` takes."""
        return {
            "color": self.colour,
            "marker": self.marker,
            "markersize": 3.5 + self.width,
            "linestyle": self.line,
            "linewidth": self.width,
            "zorder": self.order,
        }

    @property
    def swatch(self) -> str:
        """CSS of a square that stands for the line: filled where it is drawn through, a frame where it is dashed."""
        return (
            f"background:{self.colour}"
            if self.line == _LINES[0]
            else f"background:none;box-shadow:inset 0 0 0 3px {self.colour}"
        )


def looks(methods: Sequence[str], subject: str) -> dict[str, Look]:
    """Give each method a colour, a marker and a line, the subject the strongest."""
    others = [method for method in methods if method != subject]
    found = {
        method: Look(
            _COLOURS[place % len(_COLOURS)],
            _MARKERS[1 + place % (len(_MARKERS) - 1)],
            _LINES[place // len(_COLOURS) % len(_LINES)],
            1.4,
            2,
        )
        for place, method in enumerate(others)
    }
    return {**found, subject: Look(SUBJECT_COLOUR, "o", _LINES[0], 2.6, 4)}


def panels(size: tuple[float, float], down: int = 1, across: int = 1, **shared: Any) -> tuple[Figure, Any]:
    """Make a figure of some inches and its axes, (down, across)."""
    figure = Figure(figsize=size)
    return figure, figure.subplots(down, across, squeeze=False, **shared)


def legend_beside(figure: Figure, axis: Axes, **options: Any) -> None:
    """Name the lines of an axis to the right of the whole figure."""
    figure.legend(*axis.get_legend_handles_labels(), loc="center left", **{"bbox_to_anchor": (0.995, 0.5), **options})


def ends_of(found: Sequence[Interval]) -> tuple[list[float], list[list[float]]]:
    """Values, and how far their intervals reach below and above them, as matplotlib's `errorbar` takes them."""
    return [one.value for one in found], [
        [one.value - one.low for one in found],
        [one.high - one.value for one in found],
    ]


@contextmanager
def themed(theme: Theme) -> Iterator[None]:
    """Draw what is drawn inside with a theme."""
    settings: dict[Any, Any] = {
        "svg.fonttype": "path",
        # equal figures are equal files
        "svg.hashsalt": "medcore-bench",
        "font.family": "DejaVu Sans",
        "font.size": 9.5,
        # names are no formulas
        "text.parse_math": False,
        "text.color": theme.text,
        "axes.labelcolor": theme.text,
        "axes.edgecolor": theme.faint,
        "axes.facecolor": "none",
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.titlesize": 10.5,
        "axes.titleweight": "bold",
        "axes.titlelocation": "left",
        "xtick.color": theme.text,
        "ytick.color": theme.text,
        "grid.color": theme.faint,
        "grid.alpha": 0.25,
        "axes.grid": True,
        "axes.axisbelow": True,
        "figure.facecolor": theme.background,
        "savefig.facecolor": theme.background,
        "legend.frameon": False,
    }
    with matplotlib.rc_context(settings):
        yield


def svg(figure: Figure) -> str:
    """Write a figure as SVG text that is the same for the same figure."""
    stream = io.StringIO()
    figure.savefig(stream, format="svg", bbox_inches="tight", metadata={"Date": None})
    return stream.getvalue()
