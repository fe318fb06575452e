"""What the tables and figures of the sweep print, from made-up results."""

import numpy as np
import pandas as pd
import pytest

from medcore_prune.benchmarks.experiments.leverage import plots
from medcore_prune.benchmarks.experiments.leverage import report as tables
from medcore_prune.benchmarks.experiments.leverage.contours import STEPS
from medcore_prune.benchmarks.experiments.leverage.sweep import BANDS
from medcore_prune.benchmarks.report.plots.style import THEMES

THEME = THEMES["light"]


def value(middle: float | None, half: float = 0.5) -> dict[str, float | None]:
    if middle is None:
        return {"value": None, "low": None, "high": None}
    return {"value": middle, "low": middle - half, "high": middle + half}


def density(ratio: float | None) -> dict[str, object]:
    return {"heads": value(0.004), "neurons": value(0.002), "ratio": value(ratio)}


def results(win_rate: float | None = 0.8) -> dict[str, object]:
    own = {name: value(2.0) for name in ("heads", "neurons", "blr", "blr_mean", "blr_distinct", "bsr", "paired_ratio")}
    bands = {band: {**own, "win_rate": value(win_rate, 0.1), "below_epsilon": 0.0123} for band in BANDS}
    counts = {"cells": 49, "plans": 24, "heads": 35, "neurons": 21, "heads_distinct": 20, "neurons_distinct": 18}
    return {
        "bands": bands,
        "image": {"heads": value(3.0), "neurons": value(1.5), "rlr": value(2.0)},
        "damage": {metric: {**density(2.0), "paired": density(None)} for metric in ("bf1", "hd95_px")},
        "agreement": {"bf1": value(0.5, 0.1), "hd95_px": value(0.4, 0.1)},
        "counts": {**counts, "paired": 15, "returning": 0, "images": 6, "draws": 100, "groups": {"a": 3, "b": 3}},
    }


def test_the_main_table_stands_beside_the_papers() -> None:
    text = tables.main(results(), "made up").markdown()
    assert "| median BL_0.95, px / % | 2.000 [1.500, 2.500] |" in text
    assert "| 3.961 | 1.372 | 2.887 |" in text
    assert "12 of 15 [0.70, 0.90]" in text
    assert "49 cells, 24 distinct plans" in text
    assert "a 3, b 3 groups" in text


def test_what_is_not_known_is_a_dash() -> None:
    assert tables.text(value(None)) == "–"
    assert tables.text({"value": 1.0, "low": None, "high": None}) == "1.000"
    rows = tables.main(results(None), "").rows
    assert next(row for row in rows if row[0].startswith("paired"))[3].strip() == "–"


def test_a_band_a_row() -> None:
    grid = tables.bands(results(), "made up")
    assert [row[0] for row in grid.rows] == [tables.band_title(band) for band in BANDS]
    assert grid.rows[0][-1] == "1.23"


def test_theorem_rows_name_their_step() -> None:
    row = {
        "points": 64,
        "found": 1.0,
        "moved_px": 0.25,
        "error_px": None,
        "pearson": value(0.9),
        "spearman": value(None),
    }
    grid = tables.theorem([{**row, "family": step.family, "size": step.size} for step in STEPS], "made up")
    assert grid.rows[0] == ["heads", "1", "64", "100.0", "0.25", "–", "0.900 [0.400, 1.400]", "–"]
    assert grid.rows[-1][:2] == ["MLP", "20"]
    assert list(grid.sections) == [len(STEPS) // 2]


def steps(families: tuple[str, ...]) -> pd.DataFrame:
    rows = []
    for number, family in enumerate(families):
        row = {"family": family, "start": "h30_m30", "stop": "h40_m30", "saved_percent": 3.0, "move": number}
        for name in (*(f"{band}_{kind}" for band in BANDS for kind in ("q95", "mean")), "bf1_damage", "hd95_px_damage"):
            row |= {name: 1.0 + number, f"{name}_low": 0.5, f"{name}_high": 3.0}
        rows.append(row)
    return pd.DataFrame(rows)


def test_every_step_is_a_row() -> None:
    grid = tables.steps(steps(("heads", "neurons")), "made up")
    assert grid.rows[1][:5] == ["MLP", "h30_m30", "h40_m30", "3.00", "2.000 [0.500, 3.000]"]


@pytest.mark.parametrize(("families", "drawn"), [(("heads", "neurons"), True), (("heads", "heads"), False)])
def test_paired_cells_are_drawn_where_there_are_any(families: tuple[str, ...], drawn: bool) -> None:
    figure = plots.paired(steps(families), THEME)
    assert (figure is not None) == drawn
    if figure is not None:
        assert figure.axes[0].get_title(loc="left") == "" or "of 1 above" in figure.axes[0].get_title(loc="left")


def test_a_picture_needs_a_contour() -> None:
    assert plots.contour({}, THEME) is None
    points = {
        "picture_image": np.zeros((32, 32), np.uint8),
        "picture_points": np.array([[10.0, 10.0], [10.0, 20.0], [20.0, 15.0]]),
        "picture_heads_0.05": np.array([[0.1, -0.2, 0.3], [0.1, np.nan, 0.3]]),
    }
    figure = plots.contour(points, THEME)
    assert figure is not None
    gray, coloured = figure.axes[1].collections  # measured: one point without a contour in reach
    assert (len(gray.get_offsets()), len(coloured.get_offsets())) == (1, 2)
