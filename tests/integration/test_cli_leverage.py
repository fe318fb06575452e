"""`medcore-bench leverage` and `automatic` end to end: untrained pocket models at 48 px on a few phantoms."""

import json
from pathlib import Path

import pandas as pd
import pytest
from click.testing import CliRunner, Result
from pocket_pair import write_pair

from medcore_prune._support.errors import MedcorePruneError, ResultsError
from medcore_prune.benchmarks.cli import cli
from medcore_prune.benchmarks.experiments.leverage import command, contours, sweep
from medcore_prune.benchmarks.runner.store import ResultStore
from medcore_prune.pruning.plan import Plan

FEW = ["--quick", "--set", "images=1", "--set", "calibration=2", "--set", "eval_size=32"]
GRID = ["--heads", "30,60,80,84", "--mlp", "30,70,80"]


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Options that name an adapted model and its reference."""
    return write_pair(tmp_path_factory.mktemp("pair"))


def run(command: str, pair: list[str], out: Path, *more: str) -> Result:
    return CliRunner().invoke(cli, [command, *pair, *FEW, "--out", str(out), *more])


@pytest.fixture(scope="module")
def swept(pair: list[str], tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    out = tmp_path_factory.mktemp("leverage") / "out"
    result = run("leverage", pair, out, *GRID)
    assert result.exit_code == 0, result.output
    return out, result.output


def test_a_sweep_ends_in_a_report(swept: tuple[Path, str]) -> None:
    out, printed = swept
    assert "Boundary leverage of head and MLP steps" in printed
    assert "Theorem 3.3: predicted against measured displacement" in printed
    found = ResultStore.open(out).analysis("leverage")
    assert found is not None
    # 80 and 84 % of the heads are the same plan: two head steps a level, two MLP steps a level
    assert (found["counts"]["heads"], found["counts"]["neurons"]) == (2 * 3, 2 * 4)
    assert (found["counts"]["plans"], found["counts"]["images"]) == (9, 3)
    steps = pd.read_csv(out / "steps.csv")
    assert len(steps) == 14
    assert (steps["saved_percent"] > 0).all()
    assert (steps["truth_3_q95_low"] <= steps["truth_3_q95_high"]).all()
    assert len(pd.read_csv(out / "cells.csv")) == 12
    page = (out / "report.html").read_text()
    assert page.count("<figure>") == 7
    assert "15 of 15" in page  # the paper's
    assert "http" not in page.split("</style>")[1].replace("http://www.w3.org", "")
    assert {path.stem for path in (out / "figures").glob("*.svg")} == {
        "leverage",
        "levels",
        "paired",
        "damage",
        "contour",
        "theorem",
        "order",
    }


def test_a_finished_sweep_measures_nothing_again(
    pair: list[str], swept: tuple[Path, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    out, _ = swept
    before = json.loads((out / "analysis" / "leverage.json").read_text())

    def never(*given: object) -> None:
        raise AssertionError("measured again")

    monkeypatch.setattr(command.Leverage, "show", lambda self: None)
    monkeypatch.setattr(sweep, "measure", never)
    monkeypatch.setattr(contours, "_maps", never)
    assert run("leverage", pair, out, *GRID).exit_code == 0
    assert json.loads((out / "analysis" / "leverage.json").read_text()) == before


def test_other_levels_are_another_run(pair: list[str], swept: tuple[Path, str]) -> None:
    result = run("leverage", pair, swept[0], "--heads", "30,50", "--mlp", "30,50")
    assert isinstance(result.exception, MedcorePruneError)
    assert "heads" in str(result.exception)


def test_an_unfinished_sweep_cannot_be_rendered(tmp_path: Path) -> None:
    store = ResultStore.create(tmp_path / "out", {"identity": {}})
    with pytest.raises(ResultsError, match="no finished sweep"):
        command.Leverage.page(store)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--set", "seeds=2"], "one calibration sample"),
        (["--heads", "50,30"], "rise"),
        (["--method", "nothing"], "nothing"),
    ],
)
def test_what_cannot_be_is_one_line(pair: list[str], tmp_path: Path, options: list[str], message: str) -> None:
    result = run("leverage", pair, tmp_path / "out", *options)
    assert isinstance(result.exception, MedcorePruneError)
    assert message in str(result.exception)
    assert not (tmp_path / "out" / "run.json").exists()


def test_percentages_that_are_none_are_a_usage_error(pair: list[str], tmp_path: Path) -> None:
    result = run("leverage", pair, tmp_path / "out", "--mlp", "thirty")
    assert result.exit_code == 2
    assert "expected percentages" in result.output


def test_the_automatic_split_against_fixed_levels(pair: list[str], tmp_path: Path) -> None:
    out = tmp_path / "out"
    result = run("automatic", pair, out, "--levels", "h40_m30,h84_m95", "--set", "samples=1", "--set", "chunk=0.3")
    assert result.exit_code == 0, result.output
    store = ResultStore.open(out)
    cells = {(c.cell.mode, c.cell.method, c.cell.level): c for c in store.cells() if c.cell.level != "none"}
    assert len(cells) == 2 * 2 * 2
    for (unit, method, level), cell in cells.items():
        if method == "automatic":
            fixed = cells[unit, "fixed", level]
            # within half a head: the twelve blocks hold 144, two thirds of a percent each at the most
            assert cell.cost[f"{unit}_removed"] == pytest.approx(fixed.cost[f"{unit}_removed"], abs=0.004)
    everything = cells["params", "automatic", "h84_m95"]
    assert everything.plan == cells["params", "fixed", "h84_m95"].plan
    kept = Plan.load(next(out.glob(f"plans/{cells['params', 'automatic', 'h40_m30'].plan[:24]}.json")))
    assert kept.level.startswith("params=")
    assert kept.notes["automatic"]["samples"] == 1
    page = (out / "report.html").read_text()
    assert page.count("<figure>") == 2
    assert "What the automatic split chose" in result.output
    assert (out / "automatic.csv").is_file()


def test_a_searched_budget_beside_the_papers_levels(pair: list[str], tmp_path: Path) -> None:
    out = tmp_path / "out"
    words = ["--search", "--method", "magnitude", "--levels", "h50_m70", "--set", "chunk=0.5", "--set", "generations=1"]
    result = run("automatic", pair, out, *words)
    assert result.exit_code == 0, result.output
    store = ResultStore.open(out)
    cells = {(c.cell.mode, c.cell.method): c for c in store.cells() if c.cell.level != "none"}
    assert {method for _, method in cells} == {"fixed", "automatic", "unprotected", "searched"}
    # all are corrected alike
    assert len({cell.settings["treatment"] for cell in cells.values()} - {None}) == 1
    for unit in ("params", "flops"):
        searched, fixed = cells[unit, "searched"], cells[unit, "fixed"]
        # no more than the level leaves, and within the dearest step of a ladder
        assert 0 <= searched.cost[f"{unit}_removed"] - fixed.cost[f"{unit}_removed"] < 0.01
        kept = Plan.load(next(out.glob(f"plans/{searched.plan[:24]}.json")))
        assert (kept.quotas, kept.criterion, kept.protected) == ("searched", "magnitude", ())
        assert kept.notes["searched"]["generations"] == 1
        assert kept.notes["searched"]["cost"] == unit
    even = Plan.load(next(out.glob(f"plans/{cells['params', 'unprotected'].plan[:24]}.json")))
    assert {len(block.keep_heads) for block in even.blocks} == {6}
    assert cells["params", "unprotected"].cost["params_removed"] == cells["params", "fixed"].cost["params_removed"]
    page = (out / "report.md").read_text()
    assert "searched minus each method, equal parameters" in page
    assert "All were corrected alike" in page
    chosen = page.split("### What the search chose")[1].split("###")[0]
    (row,) = (line for line in chosen.splitlines() if line.startswith("| equal parameters | h50_m70 | "))
    plan = Plan.load(next(out.glob(f"plans/{cells['params', 'searched'].plan[:24]}.json")))
    words = [each.strip() for each in row.split("|")]
    assert words[6] == " ".join(str(len(block.keep_heads)) for block in plan.blocks)
    assert words[7] == " ".join(str(len(block.keep_neurons)) for block in plan.blocks)
    assert float(words[5]) == round(plan.notes["searched"]["fitness"][-1], 5)
