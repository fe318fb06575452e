"""The experiments besides the comparison, end to end: untrained pocket models at 48 px on a few phantoms."""

import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from pocket_pair import write_pair

from medcore_prune.benchmarks.cli import COMMANDS, cli
from medcore_prune.benchmarks.runner.recover import records
from medcore_prune.benchmarks.runner.store import ResultStore
from medcore_prune.pruning.plan import Plan

FEW = ["--quick", "--set", "images=2", "--set", "calibration=2", "--set", "eval_size=32"]
RECOVERED = [*FEW, "--steps", "1", "--set", "validation=1", "--set", "recovery_batch=2"]
GRID = ["h50_m70", "h70_m70", "h30_m80"]


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Options that name an adapted model and its reference."""
    return write_pair(tmp_path_factory.mktemp("pair"))


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the experiments of this file put their results, side by side."""
    return tmp_path_factory.mktemp("results")


def _run(*arguments: str) -> Result:
    result = CliRunner().invoke(cli, arguments)
    assert result.exit_code == 0, result.output
    return result


def _evaluated(store: ResultStore) -> dict[str, tuple[str, int]]:
    """Evaluations by name with their time of writing: what was not done again is as old as before."""
    return {path.name: (path.read_text(), path.stat().st_mtime_ns) for path in (store.root / "evaluations").iterdir()}


@pytest.fixture(scope="module")
def main_run(pair: list[str], results: Path) -> tuple[list[str], Result]:
    levels = ["--one-time", "h70_m95", "--sequential", "h84_m95"]
    arguments = ["main", *pair, *RECOVERED, *levels, "--out", str(results / "main")]
    return arguments, _run(*arguments)


def test_main_makes_every_model_of_table_1(main_run: tuple[list[str], Result], results: Path) -> None:
    store = ResultStore.open(results / "main")
    found = {(c.cell.mode, c.cell.method, c.cell.level): c for c in store.cells()}
    modes = {mode for mode, method, _ in found if method == "medcore"}
    assert modes == {"cut", "corrected", "one_time", "corrected_recovered", "sequential"}
    assert ("any", "unpruned_recovered", "none") in found
    # the second pass starts from the recovered one-time level and takes from the formerly protected blocks alone
    one_time, second = found["one_time", "medcore", "h70_m95"], found["sequential", "medcore", "h84_m95"]
    first, whole = (Plan.load(store.root / "plans" / f"{cell.plan[:24]}.json") for cell in (one_time, second))
    protected = set(first.protected)
    for before, after in zip(first.blocks, whole.blocks, strict=True):
        same = (before.keep_heads, before.keep_neurons) == (after.keep_heads, after.keep_neurons)
        assert same == (before.block not in protected)
    assert second.cost["params"] < one_time.cost["params"]


def test_what_main_does_is_said_first_and_shown_last(main_run: tuple[list[str], Result], results: Path) -> None:
    output = main_run[1].output
    assert "6 models, 0 stored already; 7 recoveries to make" in output
    assert "optimiser steps, at most about" in output
    assert "Table 1: compression, contour, cost" in output
    made = records(ResultStore.open(results / "main"))
    # in the precision of the run, whatever the processor has
    assert ResultStore.open(results / "main").run["identity"]["recovery"]["precision"] == "fp32"
    assert all(record["latency"]["model"]["median_ms"] > 0 for record in made.values())
    text = (results / "main" / "report.md").read_text()
    assert "unpruned_recovered" in text
    # what came back is said of each model that was recovered, and drawn from what is stored
    said = text.count(" are returned |") + text.count(" is returned |")
    assert said >= 2 * sum(bool(record["stages"][-1].get("losses")) for record in made.values())
    assert (results / "main" / "figures" / "steps.svg").is_file()
    for record in made.values():
        for stage in record["stages"]:
            looks = stage.get("validations", [])
            assert [row[0] for row in looks] == ([0, 1] if looks else [])
    assert (results / "recoveries").is_dir()


def test_main_goes_on_with_what_is_stored(main_run: tuple[list[str], Result], results: Path) -> None:
    store = ResultStore.open(results / "main")
    before = _evaluated(store)
    again = _run(*main_run[0])
    assert "6 models, 6 stored already; 0 recoveries to make" in again.output
    assert _evaluated(store) == before
    (store.root / "analysis" / "model-sequential-medcore-h84_m95.json").unlink()
    again = _run(*main_run[0])
    # its recoveries are found by their content, so that nothing is trained
    assert "recovery:" not in again.output
    assert _evaluated(store) == before


@pytest.mark.usefixtures("main_run")
def test_main_leaves_the_recovered_cut_out_where_it_is_told_to(pair: list[str], results: Path) -> None:
    words = ["--one-time", "h70_m95", "--no-sequential", "--set", "starts=corrected"]
    output = _run("main", *pair, *RECOVERED, *words, "--out", str(results / "main_corrected")).output
    assert "4 models, 0 stored already; 3 recoveries to make" in output
    # the same recoveries as those of the other run, so that nothing is trained
    assert "recovery:" not in output
    store = ResultStore.open(results / "main_corrected")
    assert {c.cell.mode for c in store.cells()} == {"any", "cut", "corrected", "corrected_recovered"}
    text = (results / "main_corrected" / "report.md").read_text()
    assert "corrected, recovered − unpruned recovered" in text
    # the claims take one result of each experiment
    shutil.rmtree(store.root)


def test_main_protects_as_many_blocks_as_it_is_told(pair: list[str], results: Path) -> None:
    words = ["--one-time", "h70_m95", "--set", "starts=corrected", "--set", "protect=0"]
    refused = CliRunner().invoke(cli, ["main", *pair, *RECOVERED, *words, "--out", str(results / "never")])
    assert "sequential levels prune the blocks that the paper's policy protects" in str(refused.exception)
    assert not (results / "never").exists()
    _run("main", *pair, *RECOVERED, *words, "--no-sequential", "--out", str(results / "main_open"))
    store = ResultStore.open(results / "main_open")
    cut = {cell.plan for cell in store.cells() if cell.cell.level == "h70_m95"}
    plans = [Plan.load(store.root / "plans" / f"{plan[:24]}.json") for plan in cut]
    assert plans
    assert not any(plan.protected for plan in plans)
    assert all(len(block.keep_heads) < 12 for plan in plans for block in plan.blocks)
    assert "One-time levels leave the 0 deepest blocks whole." in (store.root / "report.md").read_text()
    # another policy's results do not go into the same folder
    other = CliRunner().invoke(
        cli, ["main", *pair, *RECOVERED, *words[:-2], "--no-sequential", "--out", str(store.root)]
    )
    assert "protect" in str(other.exception)
    shutil.rmtree(store.root)


@pytest.fixture(scope="module")
def transfer_run(pair: list[str], results: Path) -> Result:
    return _run("transfer", *pair, *RECOVERED, "--levels", "h70_m95", "--out", str(results / "transfer"))


@pytest.mark.usefixtures("transfer_run")
def test_transfer_recovers_one_plan_on_each_modality(results: Path) -> None:
    store = ResultStore.open(results / "transfer")
    cells = [c for c in store.cells() if c.cell.level == "h70_m95"]
    sets = {"phantom_polyp_a", "phantom_ultrasound", "phantom_skin"}
    assert {(c.cell.mode, c.cell.dataset) for c in cells} == {
        (m, d) for m in ("joint", "own", "joint_corrected", "joint_cut") for d in sets
    }
    joint = [c for c in cells if c.cell.mode != "own"]
    assert len({c.plan for c in joint}) == 1
    cut, corrected = (
        {c.cell.dataset: c.evaluation for c in joint if c.cell.mode == mode}
        for mode in ("joint_cut", "joint_corrected")
    )
    assert all(cut[name] != corrected[name] for name in sets)
    recovered = {c.cell.dataset: c.evaluation for c in joint if c.cell.mode == "joint"}
    assert recovered.keys() == sets
    assert "shared − own plan" in (store.root / "report.md").read_text()


@pytest.fixture(scope="module")
def ablation_run(pair: list[str], results: Path) -> Result:
    levels = ["--levels", "h50_m70", "--sequential"]
    return _run("ablation", *pair, *RECOVERED, *levels, "--out", str(results / "ablation"))


def test_ablation_compares_four_variants(ablation_run: Result, results: Path) -> None:
    cells = ResultStore.open(results / "ablation").cells()
    variants = {c.cell.method for c in cells if c.cell.level == "h50_m70"}
    assert variants == {"full", "without_boundary_fisher", "without_reset", "without_variance"}
    assert "without boundary fisher" in ablation_run.output
    assert {c.cell.method for c in cells if c.cell.mode == "sequential"} == variants
    assert "sequential h84_m95, recovered" in (results / "ablation" / "report.md").read_text()


@pytest.fixture(scope="module")
def landscape_run(pair: list[str], results: Path) -> Result:
    return _run("landscape", *pair, *FEW, "--levels", ",".join(GRID), "--correct", "--out", str(results / "landscape"))


@pytest.mark.usefixtures("landscape_run")
def test_landscape_cuts_the_grid_and_each_block(results: Path) -> None:
    store = ResultStore.open(results / "landscape")
    by_mode: dict[str, set[str]] = {}
    for cell in store.cells():
        by_mode.setdefault(cell.cell.mode, set()).add(
            cell.cell.method if cell.cell.mode == "blocks" else cell.cell.level
        )
    assert by_mode["own"] == by_mode["corrected"] == set(GRID)
    assert by_mode["blocks"] == {f"block_{block:02d}" for block in range(12)}
    for cell in store.cells():
        if cell.cell.mode == "blocks":
            plan = Plan.load(store.root / "plans" / f"{cell.plan[:24]}.json")
            cut = [b.block for b in plan.blocks if len(b.keep_heads) < b.heads or len(b.keep_neurons) < b.neurons]
            assert cut == [int(cell.cell.method.removeprefix("block_"))]


@pytest.mark.parametrize("experiment", ["main", "transfer", "ablation", "landscape"])
def test_reports_render_again_from_files_alone(experiment: str, results: Path, request: pytest.FixtureRequest) -> None:
    request.getfixturevalue(f"{experiment}_run")
    place = results / experiment / "report.html"
    before = place.read_bytes()
    place.unlink()
    _run("report", str(results / experiment))
    assert place.read_bytes() == before


@pytest.mark.usefixtures("main_run", "transfer_run", "ablation_run", "landscape_run")
def test_claims_are_read_from_all_of_them(results: Path, tmp_path: Path) -> None:
    output = _run("claims", "--results", f"here={results}", "--out", str(tmp_path / "claims")).output
    assert "Does it show here?" in output
    text = (tmp_path / "claims" / "report.md").read_text()
    for claim in ("MedCore is first on BF1", "The boundary Fisher matters most", "The deepest blocks are the most"):
        assert claim in text
    assert "not run" in text  # no comparison among them


def test_every_experiment_has_help_and_a_default_folder() -> None:
    for name in COMMANDS:
        assert _run(name, "--help").output.startswith("Usage:")
