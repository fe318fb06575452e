"""The paper's figures are there as printed, and say whose they are."""

import pytest

from medcore_prune.benchmarks.report.paper import LABEL, paper_grid, paper_table


@pytest.mark.parametrize(("number", "rows"), [(1, 17), (2, 15), (3, 4), (4, 5), (5, 24)])
def test_every_table_is_in_the_package(number: int, rows: int) -> None:
    assert len(paper_table(number)) == rows


def test_single_figures_are_as_printed() -> None:
    table = paper_table(5).set_index(["level", "method"])
    assert table.loc[("h84_m95", "medcore"), "bf1"] == 0.2539
    leverage = paper_table(4).set_index("quantity")
    assert leverage.loc["median BL_0.95", "ratio"] == 2.887


def test_a_grid_is_labelled_as_the_papers() -> None:
    grid = paper_grid(2)
    assert grid.title == "The paper's Table 2"
    assert list(grid.footer) == [LABEL]
    assert grid.rows[0] == ["CVC-ClinicDB", "MedSAM", "89.7", "926.5", "0.9264", "0.5477", "13.77"]


def test_what_the_paper_leaves_open_is_a_dash() -> None:
    assert paper_grid(4, left=1).rows[-1] == ["paired win rate 15/15", "–", "–", "1.0000"]
