"""What tables say."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from bench_store import LEVELS, build, run_record

from medcore_prune.benchmarks.report import comparison, tables
from medcore_prune.benchmarks.report.summary import Drawn, Place, Summary, summarise
from medcore_prune.benchmarks.report.tables import Grid
from medcore_prune.benchmarks.runner.store import ResultStore
from medcore_prune.evaluation.intervals import Interval

AGREEMENT = {
    "units": {"heads": 4, "neurons": 4},
    "images": 2,
    "methods": {
        "zero_fisher": {"heads": {"reset": None, "zero": 0.5}, "neurons": {"reset": -0.25, "zero": 1.0}},
    },
}
STABILITY = {
    "samples": [2, 4],
    "level": "h50_m70",
    "methods": {
        "zero_fisher": {
            "heads": {"spearman": [0.9, 1.0], "overlap": [0.75, 1.0]},
            "neurons": {"spearman": [None, 1.0], "overlap": [0.5, 1.0]},
        }
    },
}


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> ResultStore:
    return build(tmp_path_factory.mktemp("results"))


@pytest.fixture(scope="module")
def summary(store: ResultStore) -> Summary:
    return summarise(store)


def test_the_main_table_begins_with_the_floors(summary: Summary) -> None:
    grid = tables.comparison(summary, "own")
    assert [row[1] for row in grid.rows[:3]] == ["floor: box", "floor: ellipse", "unpruned"]
    assert [row[0] for row in grid.rows if row[0]] == ["none", *LEVELS]
    assert len(grid.rows) == 3 + len(LEVELS) * 3
    assert all(len(row) == len(grid.columns) for row in grid.rows)


def test_cells_below_a_floor_are_marked_and_others_are_not(summary: Summary) -> None:
    rows = {row[1]: row for row in tables.comparison(summary, "own").rows}
    assert rows["random (mean of 3)"][4].startswith("▼ 0.2955 [")
    assert "▼" not in "".join(rows["medcore"])


def test_the_footer_counts_empty_masks_and_groups(summary: Summary) -> None:
    text = "\n".join(tables.comparison(summary, "own").footer)
    # 3 rows of 7 images, and at 2 levels 3 + 1 + 1 seeds of 7 images; random leaves one empty a seed and level
    assert "Empty masks: of 91 pairs, 6 with one of the two empty (most: random h84_m95 3, random h40_m30 3)" in text
    assert "0 with both empty" in text
    assert "set_a 4 images in 3 groups, set_b 3 images in 3 groups" in text
    assert "indicative: fewer than 10 groups in set_a, set_b" in text
    assert "Made up." in text


def test_intervals_can_be_left_to_some_metrics(summary: Summary) -> None:
    row = tables.comparison(summary, "own", intervals=("bf1",)).rows[-1]
    assert ["[" in cell for cell in row[4:]] == [False, False, True, False]


def test_ranks_are_printed_for_every_level_and_mode(summary: Summary) -> None:
    rows = tables.ranks(summary).rows
    assert [row[:2] for row in rows] == [[mode, level] for mode in summary.modes.values() for level in LEVELS]
    assert {tuple(row[2:6]) for row in rows} == {("1 of 3",) * 4}
    assert {tuple(row[6:]) for row in rows} == {("0 of 2", "0 of 2")}
    rows = tables.ranks(with_groups(summary)).rows
    assert {tuple(row[6:]) for row in rows} == {("2 of 2", "0 of 2")}


@pytest.mark.parametrize("table", [tables.ranks, lambda summary: tables.differences(summary, "own")])
def test_verdicts_from_few_groups_say_so(summary: Summary, table: Callable[[Summary], Grid]) -> None:
    assert "Intervals are indicative: fewer than 10 groups in set_a, set_b." in table(summary).footer
    assert "indicative" not in "".join(table(replace(summary, indicative=[])).footer)


def test_differences_say_better_or_not_significant(summary: Summary) -> None:
    assert all("too few groups" in cell for cell in tables.differences(summary, "same").rows[0][2:])
    rows = tables.differences(with_groups(summary), "same").rows
    assert [row[1] for row in rows] == ["random", "zero_fisher"] * 2
    assert all("better" in cell for cell in rows[0][2:])
    assert rows[0][2].startswith("+0.3939 [+")


def test_what_is_best_is_underlined_with_what_cannot_be_told_from_it(summary: Summary) -> None:
    assert not tables.comparison(summary, "own").best
    found = tables.comparison(with_groups(summary), "own")
    assert {found.methods[row] for row, _ in found.best} == {"medcore"}
    assert len(found.best) == len(LEVELS) * 4
    # of two methods that are alike both are, and where all are alike none is
    both = replace(with_groups(summary), drawn=alike(summary, "zero_fisher"))
    assert {found.methods[row] for row, _ in tables.comparison(both, "own").best} == {"medcore", "zero_fisher"}
    all_three = replace(both, drawn=alike(both, "random"))
    assert not tables.comparison(all_three, "own").best


def with_groups(summary: Summary) -> Summary:
    """The same figures as if there were groups enough for a verdict."""
    return replace(
        summary,
        indicative=[],
        groups=dict.fromkeys(summary.groups, 10),
        differences=[replace(one, groups=10) for one in summary.differences],
    )


def alike(summary: Summary, method: str) -> dict[Place, Drawn]:
    """Draws in which a method does what medcore does."""
    return {
        (mode, level, name): summary.drawn[mode, level, "medcore" if name == method else name]
        for mode, level, name in summary.drawn
    }


def test_numbers_have_the_digits_of_the_paper() -> None:
    assert tables.number("bf1", 0.50349) == "0.5035"
    assert tables.number("hd95_px", 22.129) == "22.13"
    assert tables.span("hd95_px", Interval(1.0, -0.24, 2.26), sign=True) == "[-0.2, +2.3]"
    assert tables.percent(None) == "–"


def test_csv_frames_hold_every_row(summary: Summary) -> None:
    frame = comparison.comparison_frame(summary)
    assert len(frame) == len(summary.rows)
    assert frame.loc[frame["method"] == "random", "bf1_below_floor"].all()
    assert (frame["bf1_low"] <= frame["bf1"]).all()
    assert (frame["notice"] == "made up").all()
    assert len(comparison.dataset_frame(summary)) == 2 * len(summary.rows)
    assert len(comparison.difference_frame(summary)) == len(summary.differences)


def test_tables_by_data_set_have_a_column_each(summary: Summary) -> None:
    assert tables.by_dataset(summary, "dice").columns == ["level", "method", "set_a", "set_b"]


def test_agreement_shows_a_dash_where_undefined() -> None:
    grid = comparison.agreement_grid(AGREEMENT, ["zero_fisher"])
    assert grid.columns == ["method", "heads: zero", "heads: reset", "neurons: zero", "neurons: reset"]
    assert grid.rows == [["zero_fisher", "+0.50", "–", "+1.00", "-0.25"]]


@pytest.mark.parametrize(("heads", "said"), [(9, True), (10, False)])
def test_agreement_over_a_few_units_says_so(heads: int, said: bool) -> None:
    grid = comparison.agreement_grid({**AGREEMENT, "units": {"heads": heads, "neurons": 40}}, ["zero_fisher"])
    assert any("So few units say next to nothing" in line for line in grid.footer) == said


def test_stability_shows_correlation_and_overlap() -> None:
    rows = comparison.stability_grid(STABILITY, ["zero_fisher"]).rows
    assert rows[0] == ["zero_fisher", "heads", "+0.90 / 75.0", "+1.00 / 100.0"]
    assert rows[1] == ["zero_fisher", "neurons", "– / 50.0", "+1.00 / 100.0"]


def test_cost_lists_methods_in_the_order_of_the_tables(store: ResultStore, summary: Summary) -> None:
    grid = comparison.cost_grid(store, summary.methods)
    assert grid is not None
    assert [row[0] for row in grid.rows] == ["random", "zero_fisher", "medcore"]
    assert grid.rows[0][2:] == ["0.50", "2"]


def test_cost_says_where_a_score_reads_images_and_no_statistics(store: ResultStore, summary: Summary) -> None:
    about = {
        "random": {"needs": [], "calibrated": False},
        "zero_fisher": {"needs": [], "calibrated": True},
        "medcore": {"needs": ["fisher", "reference_fisher"], "calibrated": True},
    }
    store.run["methods"] = about
    grid = comparison.cost_grid(store, summary.methods)
    assert grid is not None
    assert [row[1] for row in grid.rows] == ["–", "images", "fisher, reference_fisher"]


def test_cost_of_nothing_is_no_table(tmp_path: Path) -> None:
    assert comparison.cost_grid(ResultStore.create(tmp_path, run_record()), []) is None
