"""What a comparison answers first."""

from dataclasses import replace
from pathlib import Path

import pytest
from bench_store import LEVELS, add, build, of_experiment

from medcore_prune.benchmarks.report.answer import answer, answer_grid, choices, recommended, shown_methods
from medcore_prune.benchmarks.report.summary import Summary, summarise


def made(place: Path, **quality: float) -> Summary:
    """A comparison whose methods have these qualities, with groups enough for a verdict."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in quality.items():
            patch.setitem(__import__("bench_store").QUALITY, name, value)
        summary = summarise(build(place))
    return replace(summary, indicative=[], groups=dict.fromkeys(summary.groups, 10))


def test_the_best_of_each_level_and_what_it_costs(tmp_path: Path) -> None:
    summary = made(tmp_path)
    found = choices(summary)
    assert [(one.row.level, one.row.method) for one in found] == [(level, "medcore") for level in LEVELS]
    whole = summary.row(("any", "none", "unpruned"))
    assert whole is not None
    for one in found:
        assert one.lost.value == pytest.approx(one.row.metrics["bf1"].value - whole.metrics["bf1"].value)
        assert (one.verdict, one.alike, one.others, one.keeps) == ("worse", 0, 2, False)
    assert recommended(found) is None
    text = " ".join(answer(summary))
    assert text.startswith("No level keeps the contour within 0.01 of Boundary F1. Nearest comes medcore at ")
    assert "It is ahead of all 2 other methods there, each pair by itself." in text
    assert "in the table of differences p is corrected for their number" in text


def test_what_keeps_the_contour_is_taken_and_the_compared_method_is_placed(tmp_path: Path) -> None:
    summary = made(tmp_path, zero_fisher=0.91)
    text = answer(summary)[0]
    taken = recommended(choices(summary))
    assert taken is not None
    assert taken.row.method == "zero_fisher"
    assert text.startswith(f"Take zero_fisher at {taken.row.level}: ")
    assert "medcore is number 2 of 3 there." in text
    grid = answer_grid(summary)
    assert grid is not None
    assert [grid.rows[row][0] for row, _ in grid.best] == [taken.row.level]


def test_where_all_lie_below_a_floor_none_is_taken(tmp_path: Path) -> None:
    text = answer(made(tmp_path, random=0.2, zero_fisher=0.3, medcore=0.3))[0]
    assert text.startswith("Take none of them: at every level")


def test_a_model_that_is_worse_than_its_box_is_said(tmp_path: Path) -> None:
    text = answer(made(tmp_path, unpruned=0.3))[0]
    assert text.startswith("The unpruned model itself has a worse contour")
    assert "Take " not in text


def test_few_groups_give_no_verdict_and_no_advice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("bench_store").QUALITY, "medcore", 0.9)
    summary = summarise(build(tmp_path))
    assert {(one.verdict, one.alike) for one in choices(summary)} == {("too few groups", None)}
    first, trust = answer(summary)
    assert first.startswith("The smallest that kept the contour on average, here, is medcore at ")
    assert "too few groups" in first
    assert "other methods" not in first
    assert trust.startswith("Indicative only: set_a, set_b have fewer than 10 groups")


def test_a_plot_shows_the_best_few_and_the_compared_one(tmp_path: Path) -> None:
    summary = made(tmp_path)
    assert shown_methods(summary, count=1) == ["medcore"]
    assert shown_methods(replace(summary, subject="random"), count=1) == ["medcore", "random"]


def test_ways_compete_instead_of_methods_and_stand_beside_the_model_that_was_trained_too(tmp_path: Path) -> None:
    modes = {"cut": "one-time, no recovery", "corrected_recovered": "one-time, corrected, recovered"}
    store = of_experiment(tmp_path, "main", modes, ["medcore"], "medcore")
    add(store, "any", "none", "unpruned_recovered", quality=0.95)
    for level in LEVELS:
        for mode, quality in zip(modes, (0.5, 0.85), strict=True):
            add(store, mode, level, "medcore", quality=quality)
    summary = summarise(store)
    summary = replace(summary, indicative=[], groups=dict.fromkeys(summary.groups, 10))
    found = choices(summary, list(modes))
    assert [one.row.level for one in found] == summary.levels
    for one in found:
        rows = [row for mode in modes for row in summary.of(mode, one.row.level)]
        assert one.row.metrics["bf1"].value == max(row.metrics["bf1"].value for row in rows)
        assert one.others == len(rows) - 1
        assert one.name == f"medcore at {one.row.level} ({modes[one.row.mode]})"
    trained = ("any", "none", "unpruned_recovered")
    text = " ".join(answer(summary, list(modes), trained))
    nearest = recommended(found) or max(found, key=lambda one: one.lost.value)
    lost = summary.paired(nearest.row.place, trained)
    assert lost is not None
    row = summary.row(trained)
    assert row is not None
    assert f"The unpruned model after the same training has {row.metrics['bf1'].value:.4f}" in text
    assert f"{lost.value:+.4f}" in text
    # without such a model nothing is said of one
    assert "after the same training" not in " ".join(answer(summary, list(modes), ("any", "none", "other")))
    grid = answer_grid(summary, list(modes))
    assert grid is not None
    assert grid.columns[1] == "way"
    assert [row[1] for row in grid.rows] == [modes[one.row.mode] for one in found]
