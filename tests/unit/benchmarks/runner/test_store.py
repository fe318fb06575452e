"""The store of results: what is written comes back, what is damaged or foreign is named, what is there stays."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from medcore_prune._support.errors import ResultsError
from medcore_prune.benchmarks.runner.store import (
    FORMAT,
    Cell,
    CellResult,
    Evaluation,
    ResultStore,
    arrays,
    evaluation_key,
)

CELL = Cell("baselines", "own", "medcore", "h50_m70", "polyp", 0)
RUN = {"identity": {"adapted": "abc", "eval_size": 256}, "title": "a run"}


def _result(cell: Cell = CELL) -> CellResult:
    return CellResult(cell, "key", {"dice": 0.1 + 0.2, "bf1": 1 / 3}, {"one": 1, "both": 0}, 4, plan="p")


def _images() -> pd.DataFrame:
    return pd.DataFrame(
        {
            "dataset": ["polyp", "polyp"],
            "name": ["NA", 'b,"c'],
            "group": ["007", ""],
            "dice": [0.1 + 0.2, 1 / 3],
            "hd95_px": [1e-17, 362.03867196751236],
            "empty": ["none", "one"],
        }
    )


def test_a_cell_comes_back_as_it_was_written(tmp_path: Path) -> None:
    store = ResultStore.create(tmp_path, RUN)
    store.write(_result())
    assert store.has(CELL)
    assert store.read(CELL) == _result()
    assert ResultStore.open(tmp_path).cells() == [_result()]


def test_per_image_metrics_come_back_to_the_last_bit(tmp_path: Path) -> None:
    store = ResultStore.create(tmp_path, RUN)
    key = evaluation_key(plan="p", model="m")
    assert store.evaluation(key) is None
    store.write_evaluation(Evaluation(key, _images(), 1.5), {"plan": "p"})
    back = store.evaluation(key)
    assert back is not None
    pd.testing.assert_frame_equal(back.images, _images(), check_exact=True)
    assert (back.seconds, back.empty) == (1.5, {"one": 1, "both": 0})
    assert back.metrics == Evaluation(key, _images(), 0.0).metrics


def test_the_key_depends_on_every_ingredient() -> None:
    same = evaluation_key(plan="p", model="m", settings={"a": 1, "b": 2})
    assert same == evaluation_key(model="m", settings={"b": 2, "a": 1}, plan="p")
    others = {evaluation_key(plan="q", model="m"), evaluation_key(plan="p", model="n"), evaluation_key(plan="p")}
    assert len(others | {same}) == 4


@pytest.mark.parametrize("content", ["", "{", f'{{"format": "{FORMAT}"', "\x00\x01"])
def test_a_damaged_cell_is_named_with_what_to_do(tmp_path: Path, content: str) -> None:
    store = ResultStore.create(tmp_path, RUN)
    store.write(_result())
    (tmp_path / CELL.path).write_text(content)
    with pytest.raises(ResultsError, match=r"h50_m70-polyp-s0\.json is damaged .*: delete this file and run again"):
        store.cells()


@pytest.mark.parametrize("broken", ["cell", "metrics", "evaluation", "images"])
def test_a_cell_without_an_entry_is_damaged(tmp_path: Path, broken: str) -> None:
    store = ResultStore.create(tmp_path, RUN)
    record = _result().values()
    del record[broken]
    path = tmp_path / CELL.path
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps(record))
    with pytest.raises(ResultsError, match=rf"wrong or missing: {broken}"):
        store.cells()


def test_a_foreign_file_among_the_cells_is_named(tmp_path: Path) -> None:
    store = ResultStore.create(tmp_path, RUN)
    (tmp_path / "cells").mkdir()
    (tmp_path / "cells" / "notes.json").write_text('{"format": "mine"}')
    with pytest.raises(ResultsError, match=r"notes\.json is no result of this version .*got 'mine'"):
        store.cells()


def test_a_cell_in_the_place_of_another_is_refused(tmp_path: Path) -> None:
    store = ResultStore.create(tmp_path, RUN)
    store.write(_result())
    moved = tmp_path / Cell("baselines", "own", "random", "h50_m70", "polyp", 0).path
    moved.parent.mkdir(parents=True)
    (tmp_path / CELL.path).rename(moved)
    with pytest.raises(ResultsError, match=r"random.*holds the result of .*medcore.*delete this file"):
        store.cells()


def test_a_changed_table_is_noticed(tmp_path: Path) -> None:
    store = ResultStore.create(tmp_path, RUN)
    store.write_evaluation(Evaluation("k", _images(), 0.0), {})
    table = tmp_path / "evaluations" / "k.csv"
    table.write_text(table.read_text().replace("362", "363"))
    with pytest.raises(ResultsError, match=r"k\.csv is missing or not as it was written: delete .*k\.json"):
        store.evaluation("k")


def test_a_table_that_changes_after_it_was_read_is_noticed(tmp_path: Path) -> None:
    store = ResultStore.create(tmp_path, RUN)
    store.write_evaluation(Evaluation("k", _images(), 0.0), {})
    assert store.evaluation("k") is store.evaluation("k")
    store.write_evaluation(Evaluation("k", _images().assign(dice=[0.5, 0.25]), 2.0), {})
    again = store.evaluation("k")
    assert again is not None
    assert (list(again.images["dice"]), again.seconds) == ([0.5, 0.25], 2.0)
    table = tmp_path / "evaluations" / "k.csv"
    table.write_text(table.read_text().replace("0.25", "0.75"))
    with pytest.raises(ResultsError, match=r"k\.csv is missing or not as it was written"):
        store.evaluation("k")
    table.unlink()
    with pytest.raises(ResultsError, match=r"k\.csv is missing or not as it was written"):
        store.evaluation("k")


def test_going_on_keeps_cells_and_fresh_removes_them(tmp_path: Path) -> None:
    ResultStore.create(tmp_path, RUN).write(_result())
    assert ResultStore.create(tmp_path, {**RUN, "title": "more methods"}).has(CELL)
    assert ResultStore.open(tmp_path).run["title"] == "more methods"
    assert not ResultStore.create(tmp_path, RUN, fresh=True).has(CELL)


def test_fresh_leaves_what_others_put_there(tmp_path: Path) -> None:
    ResultStore.create(tmp_path, RUN)
    (tmp_path / "notes.txt").write_text("mine")
    ResultStore.create(tmp_path, RUN, fresh=True)
    assert (tmp_path / "notes.txt").read_text() == "mine"


def test_fresh_refuses_a_folder_that_is_not_a_run(tmp_path: Path) -> None:
    (tmp_path / "cells").mkdir()
    (tmp_path / "cells" / "biology.txt").write_text("mine")
    with pytest.raises(ResultsError, match=r"not empty and holds no run\.json"):
        ResultStore.create(tmp_path, RUN, fresh=True)
    assert (tmp_path / "cells" / "biology.txt").exists()


def test_fresh_refuses_the_folder_of_another_program(tmp_path: Path) -> None:
    for name in ("run.json", "analysis/thesis.txt", "plans/house.json", "gallery/photo-1.png", "cells/a.json"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text('{"my": "experiment of another program"}')
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    for fresh in (True, False):
        with pytest.raises(ResultsError, match="is no result of this version") as refused:
            ResultStore.create(tmp_path, RUN, fresh=fresh)
        assert "\n" not in str(refused.value)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def test_fresh_removes_what_the_run_wrote_and_nothing_else(tmp_path: Path) -> None:
    store = ResultStore.create(tmp_path, RUN)
    store.write(_result())
    store.write_evaluation(Evaluation("0" * 24, _images(), 1.0), {})
    store.write_analysis("gallery", {"pictures": [{"file": "gallery/a-0.png"}, {"file": "../../photo.png"}]})
    arrays(tmp_path / "analysis" / "contours.npz", "abc").put({"x": np.zeros(3)})
    sums = tmp_path / "calibration" / f"adapted-{'0' * 24}"
    for name in ("gallery/a-0.png", f"plans/{'a' * 24}.json", f"calibration/{sums.name}/fisher.safetensors"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("{}")
    own = {path for path in tmp_path.rglob("*") if path.is_file()}
    mine = ["analysis/thesis.txt", "analysis/mine.json", "gallery/photo.png", "plans/house.json", "cells/x.csv"]
    (tmp_path / "analysis" / "data.npz").write_bytes(b"mine")
    (tmp_path / "calibration" / "weights.safetensors").write_bytes(b"mine")
    (tmp_path / "cells" / "elsewhere").symlink_to(tmp_path / "analysis")
    for name in mine:
        (tmp_path / name).write_text('{"format": "mine"}')
    ResultStore.create(tmp_path, RUN, fresh=True)
    left = {str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*") if p.is_file() and not p.is_symlink()}
    assert left == {*mine, "run.json", "analysis/data.npz", "calibration/weights.safetensors"}, own
    assert not sums.exists()


def test_results_of_another_run_are_refused_with_what_differs(tmp_path: Path) -> None:
    ResultStore.create(tmp_path, RUN)
    other = {"identity": {"adapted": "abc", "eval_size": 128}}
    with pytest.raises(ResultsError, match=r"another run \(eval_size differ; eval_size was 256, is 128\).*--fresh"):
        ResultStore.create(tmp_path, other)


def test_unfinished_files_of_a_killed_run_are_ignored_and_removed(tmp_path: Path) -> None:
    store = ResultStore.create(tmp_path, RUN)
    store.write(_result())
    unfinished = (tmp_path / CELL.path).parent / ".h50_m70-polyp-s0.writing-x1y2x1y2.json"
    unfinished.write_text("{")
    assert len(store.cells()) == 1
    ResultStore.create(tmp_path, RUN)
    assert not unfinished.exists()


def test_a_folder_without_results_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ResultsError, match=r"holds no results \(no run.json\)"):
        ResultStore.open(tmp_path)


def test_analyses_come_back(tmp_path: Path) -> None:
    store = ResultStore.create(tmp_path, RUN)
    assert store.analysis("stability") is None
    store.write_analysis("stability", {"rows": [1, 2]})
    assert store.analysis("stability") == {"format": FORMAT, "rows": [1, 2]}


@pytest.mark.parametrize("change", [{"identity": []}, {"methods": [1]}])
def test_a_run_file_of_other_types_is_damaged(tmp_path: Path, change: dict[str, object]) -> None:
    ResultStore.create(tmp_path, RUN)
    stored = json.loads((tmp_path / "run.json").read_text())
    del stored["content_sha256"]
    (tmp_path / "run.json").write_text(json.dumps({**stored, **change}))
    with pytest.raises(ResultsError, match=rf"run\.json is damaged \(wrong: {next(iter(change))}\)"):
        ResultStore.open(tmp_path)
    del stored["identity"]
    (tmp_path / "run.json").write_text(json.dumps(stored))
    with pytest.raises(ResultsError, match=r"run\.json is damaged \(missing: identity\)"):
        ResultStore.open(tmp_path)


def test_a_changed_record_is_noticed(tmp_path: Path) -> None:
    store = ResultStore.create(tmp_path, RUN)
    store.write(_result())
    path = tmp_path / CELL.path
    path.write_text(path.read_text().replace('"images": ', '"images": 1'))
    with pytest.raises(ResultsError, match="not as it was written"):
        store.cells()
