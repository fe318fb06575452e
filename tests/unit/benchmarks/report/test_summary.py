"""From cells to the figures of the tables."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from bench_store import GROUPS, LEVELS, add, build, images, run_record

from medcore_prune._support.errors import ResultsError
from medcore_prune.benchmarks.report.summary import Row, Summary, summarise
from medcore_prune.benchmarks.runner.store import NO_LEVEL, Cell, Evaluation, ResultStore


@pytest.fixture
def summary(tmp_path: Path) -> Summary:
    return summarise(build(tmp_path))


def _row(summary: Summary, mode: str, level: str, method: str) -> Row:
    return next(row for row in summary.rows if (row.mode, row.level, row.method) == (mode, level, method))


def test_rows_come_in_the_order_of_the_table(summary: Summary) -> None:
    assert [row.method for row in summary.unpruned_rows] == ["floor_box", "floor_ellipse", "unpruned"]
    assert summary.levels == list(LEVELS)
    assert [row.method for row in summary.of("own", "h40_m30")] == ["random", "zero_fisher", "medcore"]


def test_a_macro_average_is_the_mean_of_data_set_means(summary: Summary) -> None:
    means = [images(name, 0.7, 0)["bf1"].mean() for name in GROUPS]
    assert _row(summary, "own", "h40_m30", "medcore").metrics["bf1"].value == pytest.approx(np.mean(means))


def test_random_counts_as_the_mean_of_its_seeds(summary: Summary) -> None:
    row = _row(summary, "same", "h84_m95", "random")
    means = [np.mean([images(name, 0.3, seed)["dice"].mean() for seed in range(3)]) for name in GROUPS]
    assert row.seeds == 3
    assert row.metrics["dice"].value == pytest.approx(np.mean(means))
    assert row.empty == {"one": 3, "both": 0}


def test_what_a_floor_beats_is_marked_and_a_floor_never_is(summary: Summary) -> None:
    assert "bf1" in _row(summary, "own", "h40_m30", "random").below_floor
    assert "hd95_px" in _row(summary, "own", "h40_m30", "random").below_floor
    assert not _row(summary, "own", "h40_m30", "medcore").below_floor
    assert not _row(summary, "any", NO_LEVEL, "floor_box").below_floor


def test_ranks_count_who_is_better(tmp_path: Path) -> None:
    by_subject = {name: summarise(build(tmp_path / name), name).ranks for name in ("medcore", "zero_fisher", "random")}
    assert {(rank.rank, rank.of) for rank in by_subject["medcore"]} == {(1, 3)}
    assert {(rank.rank, rank.of) for rank in by_subject["zero_fisher"]} == {(2, 3)}
    assert {(rank.rank, rank.of) for rank in by_subject["random"]} == {(3, 3)}
    assert len(by_subject["medcore"]) == 2 * len(LEVELS) * 4


def test_differences_are_the_subject_minus_the_other(summary: Summary) -> None:
    found = {(d.method, d.metric): d for d in summary.differences if (d.mode, d.level) == ("own", "h40_m30")}
    assert len(found) == 2 * 4
    gain = found["random", "bf1"]
    own, other = (_row(summary, "own", "h40_m30", name).metrics["bf1"].value for name in ("medcore", "random"))
    assert gain.value.value == pytest.approx(own - other)
    assert found["random", "hd95_px"].value.value < 0
    # three groups decide nothing, whatever the interval
    assert (gain.verdict, gain.significant) == ("too few groups", False)
    enough = {metric: replace(found["random", metric], groups=10) for metric in ("bf1", "hd95_px")}
    assert {one.verdict for one in enough.values()} == {"better"}
    assert replace(enough["bf1"], p_holm=0.06).verdict == "not significant"
    # both comparisons are as certain as the draws allow, so Holm doubles the smaller p for each
    assert gain.p == pytest.approx(2 / 301)
    assert gain.p_holm == pytest.approx(2 * 2 / 301)


def test_an_equal_method_is_not_significantly_different(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("bench_store").QUALITY, "zero_fisher", 0.7)
    found = [d for d in summarise(build(tmp_path)).differences if d.method == "zero_fisher"]
    assert {replace(d, groups=10).verdict for d in found} == {"not significant"}


def test_unfinished_rows_are_left_out_and_named(tmp_path: Path) -> None:
    store = build(tmp_path)
    (tmp_path / Cell("baselines", "own", "medcore", "h84_m95", "set_b", 0).path).unlink()
    (tmp_path / Cell("baselines", "own", "random", "h84_m95", "set_b", 2).path).unlink()
    summary = summarise(store)
    assert set(summary.incomplete) == {("own", "h84_m95", "medcore"), ("own", "h84_m95", "random")}
    assert [row.method for row in summary.of("own", "h84_m95")] == ["zero_fisher"]


def test_calibration_draws_are_nested_and_widen_the_interval(tmp_path: Path) -> None:
    one, two = (ResultStore.create(tmp_path / name, run_record(draws=3000)) for name in "ab")
    for store, seeds in ((one, 1), (two, 2)):
        for method in ("floor_box", "floor_ellipse", "unpruned"):
            add(store, "any", NO_LEVEL, method)
        for seed in range(seeds):
            # a second calibration sample that leads to much worse masks
            add(store, "own", "h40_m30", "medcore", seed)
    for dataset in GROUPS:
        cell = Cell("baselines", "own", "medcore", "h40_m30", dataset, 1)
        key = two.read(cell).evaluation
        two.write_evaluation(Evaluation(key, images(dataset, 0.3, 1), 0.1), {})
    widths = [_row(summarise(s), "own", "h40_m30", "medcore").metrics["bf1"] for s in (one, two)]
    assert summarise(two).calibration_draws == 2
    assert widths[1].high - widths[1].low > 5 * (widths[0].high - widths[0].low)


def test_lost_per_image_metrics_are_an_error(tmp_path: Path) -> None:
    store = build(tmp_path)
    for path in (tmp_path / "evaluations").glob("*.json"):
        path.unlink()
    with pytest.raises(ResultsError, match=r"per-image metrics of .* are gone: run again"):
        summarise(store)


def test_a_folder_with_no_cells_has_an_empty_summary(tmp_path: Path) -> None:
    summary = summarise(ResultStore.create(tmp_path, run_record()))
    assert (list(summary.rows), list(summary.ranks), summary.levels) == ([], [], [])
