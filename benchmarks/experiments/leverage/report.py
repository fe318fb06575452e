"""Tables of the sweep, and what their readers must know."""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from ....evaluation.leverage import GRID_PX
from ...report.paper import LABEL, paper_table
from ...report.tables import Grid
from .contours import IMAGES, POINTS, START
from .sweep import BANDS, HEADLINE

LEAD = (
    "A step that changes the logit map l by delta displaces the contour by |delta| / ||grad l|| pixels of the "
    f"{GRID_PX} grid, to first order; its boundary leverage is the 95 % quantile of that over the boundary band of all "
    "images, divided by the percent of the encoder's parameters that the step saves."
)
THEOREM = [
    "Theorem 3.3 says where the contour goes: along the normal by d = -delta / ||grad l||, to first order. Here that "
    "is held against the contour's own movement: from each point of the contour before the step, the nearest zero of "
    f"the map after it along the normal, between pixels. Steps start at {START}."
]
CAPTIONS = {
    "leverage": "Boundary leverage of every valid step, by family and band; the line is the median.",
    "levels": "The same leverage by the cell that a step starts from. Lines: levels of the other family; levels beyond "
    "saturation coincide, and the first of them is drawn.",
    "paired": "Cells from which both a head step and an MLP step are valid: above the line the head step has the "
    "higher leverage. Bars: 95 % intervals.",
    "damage": "What a step does to BF1 and HD95 per percent saved, against its boundary leverage.",
    "contour": "One image: the displacement of each contour point as predicted (top) and as measured (bottom), for a "
    "small and a large step of each family. Blue: out of the mask, red: into it; gray: no contour within reach.",
    "theorem": "Predicted against measured displacement of contour points. On the dashed line the prediction is right.",
    "order": "How well the first-order displacement follows the measured one, as steps grow.",
}
_NAMES = {
    "truth_3": "true contour, 3 px",
    "truth_7": "true contour, 7 px",
    "predicted_3": "predicted contour, 3 px",
    "predicted_7": "predicted contour, 7 px",
}
_PAPER = {"leverage": "median BL_0.95", "bf1": "BF1 damage density", "hd95_px": "HD95 damage density"}
FAMILY_TITLES = {"heads": "heads", "neurons": "MLP"}


def band_title(band: str) -> str:
    """Write a band in words."""
    around, px = BANDS[band]
    return _NAMES.get(band, f"{around} {px} px")


def text(found: Mapping[str, Any] | None, digits: int = 3, *, bare: bool = False) -> str:
    """Write an estimate with its interval; a dash where there is none."""
    if found is None or found["value"] is None:
        return "–"
    value = f"{found['value']:.{digits}f}"
    if bare or found["low"] is None or found["high"] is None:
        return value
    return f"{value} [{found['low']:.{digits}f}, {found['high']:.{digits}f}]"


def main(found: Mapping[str, Any], notice: str) -> Grid:
    """This run's Table 4 beside the paper's."""
    own, image, counts = found["bands"][HEADLINE], found["image"], found["counts"]
    rows = [
        ["median BL_0.95, px / %", text(own["heads"]), text(own["neurons"]), text(own["blr"]), *_paper("leverage")],
        [
            "the same over the image, px / %",
            text(image["heads"]),
            text(image["neurons"]),
            text(image["rlr"]),
            *["–"] * 3,
        ],
        ["BSR = BLR / RLR", "", "", text(own["bsr"]), "", "", "slightly below 1"],
    ]
    for metric, name, digits in (("bf1", "BF1 loss / %", 5), ("hd95_px", "HD95 rise, px / %", 4)):
        density = found["damage"][metric]
        rows.append([name, *_density(density, digits), *_paper(metric)])
        rows.append(["   from paired cells", *_density(density["paired"], digits), *["–"] * 3])
    won = own["win_rate"]
    wins = "–" if won["value"] is None else f"{round(won['value'] * counts['paired'])} of {counts['paired']}"
    rows.append(["paired cells won by heads", "", "", f"{wins} {_interval(won)}", "", "", "15 of 15"])
    rows.append(["valid steps", str(counts["heads"]), str(counts["neurons"]), "", "35", "21", ""])
    rows.append(["distinct steps", str(counts["heads_distinct"]), str(counts["neurons_distinct"]), "", "", "", ""])
    return Grid(
        "Boundary leverage of head and MLP steps",
        ["", "heads", "MLP", "ratio", "paper: heads", "paper: MLP", "paper: ratio"],
        rows,
        [
            notice,
            f"Band: {band_title(HEADLINE)} to either side. {counts['cells']} cells, {counts['plans']} distinct plans: "
            "cells beyond saturation remove the same, so some of the valid steps are the same step.",
            f"[low, high]: 95 % bootstrap over groups of images ({counts['draws']} draws; "
            + ", ".join(f"{name} {count}" for name, count in counts["groups"].items())
            + " groups); the steps themselves are fixed.",
            f"{counts['returning']} units return in a later level (0: the plans are nested).",
            f"Rank correlation of leverage with damage over distinct steps: BF1 {text(found['agreement']['bf1'], 2)}, "
            f"HD95 {text(found['agreement']['hd95_px'], 2)}.",
            LABEL,
        ],
    )


def _density(density: Mapping[str, Any], digits: int) -> list[str]:
    return [text(density["heads"], digits), text(density["neurons"], digits), text(density["ratio"])]


def _interval(found: Mapping[str, Any]) -> str:
    return "" if found["low"] is None else f"[{found['low']:.2f}, {found['high']:.2f}]"


def _paper(row: str) -> list[str]:
    table = paper_table(4).set_index("quantity")
    digits = 3 if row == "leverage" else 5
    heads, neurons, ratio = (float(str(table.loc[_PAPER[row], name])) for name in ("head_steps", "mlp_steps", "ratio"))
    return [f"{heads:.{digits}f}", f"{neurons:.{digits}f}", f"{ratio:.3f}"]


def bands(found: Mapping[str, Any], notice: str) -> Grid:
    """The same ratios for every band, by the mean instead of the quantile, and over distinct steps alone."""
    rows = [
        [
            band_title(band),
            text(own["blr"]),
            text(own["blr_distinct"]),
            text(own["blr_mean"]),
            text(own["paired_ratio"]),
            text(own["bsr"]),
            _interval(own["win_rate"]) and f"{own['win_rate']['value']:.2f} {_interval(own['win_rate'])}",
            f"{100 * own['below_epsilon']:.2f}",
        ]
        for band, own in ((band, found["bands"][band]) for band in BANDS)
    ]
    return Grid(
        "Ratios by band",
        ["band", "BLR", "distinct steps", "by the mean", "paired cells", "BSR", "win rate", "slope < eps, %"],
        rows,
        [
            notice,
            "Paired cells: median of the cells' own ratios, head step over MLP step from the same cell.",
            "eps: a thousandth of the map's median slope in the band; where the slope is below, eps bounds the "
            "displacement. Quantiles are read from histograms, within 2.4 %.",
        ],
    )


def theorem(rows: Sequence[Mapping[str, Any]], notice: str) -> Grid:
    """Predicted against measured displacement, step by step."""
    cells = [
        [
            FAMILY_TITLES[row["family"]],
            f"{100 * row['size']:g}",
            str(row["points"]),
            f"{100 * row['found']:.1f}",
            _px(row["moved_px"]),
            _px(row["error_px"], 3),
            text(row["pearson"]),
            text(row["spearman"]),
        ]
        for row in rows
    ]
    columns = ["family", "units -%", "points", "found %", "moved px", "error px", "Pearson", "Spearman"]
    sections = [place for place in range(1, len(rows)) if rows[place]["family"] != rows[place - 1]["family"]]
    footer = [
        notice,
        f"Up to {IMAGES} images of each data set and {POINTS} points of each contour. Found: points with a contour of "
        "the same orientation within 20 px along the normal; the correlations are over these, predictions being cut at "
        "20 px. Moved, error: medians of the measured distance and of its difference from the prediction.",
        "Intervals: bootstrap over groups of images; ranks are those of all points.",
    ]
    return Grid("Theorem 3.3: predicted against measured displacement", columns, cells, footer, sections)


def _px(value: float | None, digits: int = 2) -> str:
    return "–" if value is None else f"{value:.{digits}f}"


def steps(table: pd.DataFrame, notice: str) -> Grid:
    """Every valid step."""
    rows = []
    for row in table.to_dict("records"):
        spans = [
            text(
                {end: row[f"{name}{tail}"] for end, tail in (("value", ""), ("low", "_low"), ("high", "_high"))}, digits
            )
            for name, digits in (
                (f"{HEADLINE}_q95", 3),
                (f"{HEADLINE}_mean", 3),
                ("bf1_damage", 4),
                ("hd95_px_damage", 3),
            )
        ]
        rows.append([FAMILY_TITLES[row["family"]], row["start"], row["stop"], f"{row['saved_percent']:.2f}", *spans])
    columns = ["family", "from", "to", "saved %", "BL_0.95", "BL mean", "BF1 loss / %", "HD95 rise / %"]
    return Grid("Valid steps", columns, rows, [notice, "All bands in steps.csv."], left=3)
