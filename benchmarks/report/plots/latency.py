"""The figure of `medcore-bench latency`: encoder and decoder of each candidate, a panel a number of threads."""

import pandas as pd
from matplotlib.figure import Figure

from .style import OTHER_COLOUR, SUBJECT_COLOUR, panels

_DECODER = "#8d99a6"


def draw_latency(table: pd.DataFrame, title: str) -> Figure:
    """Draw median times as bars, the encoder's then the decoder's, with the 95th percentile of both as a whisker.

    Args:
        table: Rows as `speed.latency.tabulate` makes them.
        title: What stands above.
    """
    counts = list(dict.fromkeys(table["threads"]))
    rows = len(table) // len(counts)
    figure, axes = panels((4.2 * len(counts) + 2.4, 1.2 + 0.34 * rows), 1, len(counts), sharey=True)
    first = table["model"].iloc[0]
    for axis, threads in zip(axes.flat, counts, strict=True):
        part = table[table["threads"] == threads].reset_index(drop=True)
        places = list(range(len(part)))
        colours = [OTHER_COLOUR if name == first else SUBJECT_COLOUR for name in part["model"]]
        encoder = part["encoder_median_ms"]
        # what is over the median of the whole, which is not quite the sum of the parts' medians
        reach = (part["prediction_p95_ms"] - part["prediction_median_ms"]).clip(lower=0)
        axis.barh(places, encoder, color=colours, height=0.68)
        decoder = (part["prediction_median_ms"] - encoder).clip(lower=0)
        axis.barh(places, decoder, left=encoder, color=_DECODER, height=0.68)
        ends = part["prediction_median_ms"]
        axis.errorbar(ends, places, xerr=[[0.0] * len(part), reach], fmt="none", ecolor=_DECODER, linewidth=1)
        for place, end, over in zip(places, ends + reach, part["prediction_over_pytorch"], strict=True):
            axis.annotate(f" {over:.2f}", (end, place), va="center", fontsize=7.5)
        axis.set_title(f"{threads} thread" + ("s" if threads != 1 else ""))
        axis.set_xlabel("ms a prediction, median to 95th percentile")
        axis.margins(x=0.14)
        axis.grid(visible=False, axis="y")
    names = [f"{row.model}, {row.runtime}" for row in table.iloc[:rows].itertuples()]
    axes[0][0].set_yticks(range(rows), names, fontsize=8)
    axes[0][0].set_ylim(rows - 0.5, -0.5)
    figure.suptitle(
        f"{title}\nencoder (blue {first}, orange the others), decoder grey; numbers: times the prediction of {first} "
        "under PyTorch",
        fontsize=8.5,
        x=0.01,
        ha="left",
    )
    figure.tight_layout()
    return figure
