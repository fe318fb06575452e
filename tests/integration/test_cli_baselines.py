"""`medcore-bench baselines` and `report` end to end: untrained pocket models at 48 px on a few phantoms."""

import json
import re
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pandas as pd
import pytest
from click.testing import CliRunner, Result
from forked import Script
from pocket_pair import SIZE, write_pair
from skimage.io import imsave

from medcore_prune._support.errors import MedcorePruneError, UnreadableError
from medcore_prune._support.files import exclusive
from medcore_prune.benchmarks.cli import cli
from medcore_prune.benchmarks.runner import jobs
from medcore_prune.benchmarks.runner.settings import MODES
from medcore_prune.benchmarks.runner.store import ResultStore
from medcore_prune.commands.cli import cli as medcore_prune_cli
from medcore_prune.data import phantoms
from medcore_prune.pruning.plan import Plan
from medcore_prune.scoring.recipes import get_baseline
from medcore_prune.scoring.registry import criteria

PLUGIN = '''
import torch
from medcore_prune.scoring.registry import register_criterion

@register_criterion("my_weights", source="a test")
def my_weights(group):
    """Mean absolute weight."""
    return torch.stack([group.inputs[0].layer.weight[rows].abs().mean() for rows in group.inputs[0].rows])
'''
METHODS = "random,zero_fisher,medcore"
RANDOM_SEEDS, SETS = 5, 3


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Options that name an adapted model and its reference."""
    return write_pair(tmp_path_factory.mktemp("pair"))


@pytest.fixture(scope="module")
def alone(pair: list[str], tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The same with one data set in place of three, where that is not what is looked at."""
    return [*pair, "--data", f"own={_folder(tmp_path_factory.mktemp('own') / 'set')}"]


def _arguments(pair: list[str], out: Path, *more: str) -> list[str]:
    few = ["--quick", "--set", "images=2", "--set", "calibration=2", "--set", "eval_size=32", "--levels", "h50_m70"]
    return ["baselines", *pair, *few, "--no-correct", "--out", str(out), *more]


def _run(arguments: list[str]) -> Result:
    return CliRunner().invoke(cli, arguments)


@pytest.fixture(scope="module")
def whole(pair: list[str], tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A run that nothing disturbed, and what it printed."""
    out = tmp_path_factory.mktemp("whole") / "out"
    result = _run(_arguments(pair, out, "--methods", METHODS))
    assert result.exit_code == 0, result.output
    return out, result.output


def _numbers(out: Path) -> dict[str, object]:
    """Everything of the cells that must be the same whatever happened on the way."""
    return {str(c.cell.path): (c.metrics, c.empty, c.plan, c.cost, c.inputs) for c in ResultStore.open(out).cells()}


def test_every_cell_is_stored_and_says_what_it_is(whole: tuple[Path, str]) -> None:
    cells = ResultStore.open(whole[0]).cells()
    # random has 5 seeds, the others 1; 2 modes; two floors and the unpruned model; 3 data sets
    assert len(cells) == ((RANDOM_SEEDS + 2) * 2 + 3) * SETS
    for cell in cells:
        assert set(cell.versions) >= {"python", "torch", "medcore-prune"}
        assert cell.images == 2
        assert cell.inputs["adapted"] != cell.inputs["reference"]
    pruned = next(c for c in cells if c.cell.method == "medcore")
    assert pruned.inputs["calibration"]
    assert pruned.cost["params_removed"] == pytest.approx(0.605, abs=0.01)


def test_the_floors_come_first_and_the_notice_and_the_rank_are_printed(whole: tuple[Path, str]) -> None:
    output = whole[1]
    assert output.index("floor: box") < output.index("floor: ellipse") < output.index("zero_fisher  ")
    assert "phantom images, pocket model: not a clinical result" in output
    assert "Rank of medcore" in output
    assert "own quotas" in output
    assert "same per-block budget" in output
    assert "Empty masks: of" in output


def test_what_will_be_done_is_said_first(whole: tuple[Path, str]) -> None:
    start = whole[1][: whole[1].index("calibration:")] if "calibration:" in whole[1] else whole[1]
    # two images a set, and the unpruned model beside the plans
    plans = _most_plans() + 1
    assert "work: 51 results (one for each method, level, mode, seed and data set); at most " in start
    assert f"at most {plans} distinct plans, {plans * SETS * 2} masks" in start
    assert re.search(r"about \d+ (s|min) if nothing is stored", start)


def _most_plans() -> int:
    """One plan a seed, and another where a method's own quotas are not uniform."""
    fisher = sum(1 if get_baseline(name).quotas == "uniform" else 2 for name in ("zero_fisher", "medcore"))
    return RANDOM_SEEDS + fisher


def test_a_distinct_plan_is_evaluated_once(whole: tuple[Path, str]) -> None:
    plans = list((whole[0] / "plans").glob("*.json"))
    evaluations = list((whole[0] / "evaluations").glob("*.json"))
    assert RANDOM_SEEDS < len(plans) <= _most_plans()
    assert len(evaluations) == (len(plans) + 3) * SETS


def test_a_corrected_row_stands_beside_each_method(pair: list[str], tmp_path: Path) -> None:
    asked = _arguments(pair, tmp_path / "out", "--methods", "random,medcore", "--correct", "--no-gallery")
    result = _run(asked)
    assert result.exit_code == 0, result.output
    cells = ResultStore.open(tmp_path / "out").cells()
    own = {(c.cell.method, c.cell.seed, c.cell.dataset): c for c in cells if c.cell.mode == "own"}
    corrected = {(c.cell.method, c.cell.seed, c.cell.dataset): c for c in cells if c.cell.mode == "corrected"}
    # of the stochastic method the first seed alone
    assert {place[:2] for place in corrected} == {("random", 0), ("medcore", 0)}
    for place, cell in corrected.items():
        assert cell.plan == own[place].plan
        assert cell.evaluation != own[place].evaluation
        assert cell.settings["treatment"]
    places = [
        result.output.index(f"Macro average, no recovery, {title} ")
        for mode, title in MODES.items()
        if mode != "searched"
    ]
    assert places == sorted(places)
    table = result.output[places[0] : places[1]]
    assert table.index("medcore  ") < table.index("medcore, corrected")
    again = _run(asked)
    assert again.exit_code == 0
    assert "correction" not in again.output


def test_a_searched_budget_keeps_the_order_of_each_score(alone: list[str], tmp_path: Path) -> None:
    few = ["--methods", "random,magnitude", "--search", "--set", "generations=1", "--no-gallery", "--correct"]
    arguments = [*_arguments(alone, tmp_path / "out"), *few]
    done = _run(arguments)
    assert done.exit_code == 0, done.output
    store = ResultStore.open(tmp_path / "out")
    found = {(c.cell.mode, c.cell.method, c.cell.seed): c for c in store.cells()}
    assert {place for place in found if place[0] == "searched"} == {("searched", m, 0) for m in ("random", "magnitude")}
    whole = ResultStore.open(tmp_path / "out").root / "plans"
    for method in ("random", "magnitude"):
        own, searched = (found[mode, method, 0] for mode in ("corrected", "searched"))
        # as many parameters go, counted in whole units
        assert searched.cost["params_removed"] == pytest.approx(own.cost["params_removed"], abs=0.02)
        plans = [Plan.load(whole / f"{cell.plan[:24]}.json") for cell in (own, searched)]
        assert plans[0].protected
        assert not plans[1].protected
        for block in zip(*(plan.blocks for plan in plans), strict=True):
            for family in ("keep_heads", "keep_neurons"):
                fewer, more = sorted((set(getattr(each, family)) for each in block), key=len)
                # the score's order decides which: the smaller set is what is left of the larger one
                assert fewer <= more
    text = (tmp_path / "out" / "report.md").read_text()
    assert "### Score and budget" in text
    assert len(re.findall(r"^\| .*\| spread \|", text, re.MULTILINE)) == 1
    # what was found is found again
    before = {path.name: path.stat().st_mtime_ns for path in (store.root / "evaluations").iterdir()}
    again = _run(arguments)
    assert again.exit_code == 0, again.output
    assert {path.name: path.stat().st_mtime_ns for path in (store.root / "evaluations").iterdir()} == before


def test_a_search_over_several_draws_is_refused(pair: list[str], tmp_path: Path) -> None:
    result = _run([*_arguments(pair, tmp_path / "out"), "--search", "--set", "seeds=2"])
    assert "--search looks at one calibration sample" in str(result.exception)
    assert not (tmp_path / "out").exists()


def test_the_report_renders_again_from_files_alone(whole: tuple[Path, str]) -> None:
    page = whole[0] / "report.html"
    before = page.read_bytes()
    page.unlink()
    result = _run(["report", str(whole[0])])
    assert result.exit_code == 0, result.output
    assert page.read_bytes() == before
    assert b"data:image/png" in before
    assert _run(["report", str(whole[0]), "--no-gallery"]).exit_code == 0
    assert b"data:image/png" not in page.read_bytes()


def test_agreement_and_stability_are_stored(whole: tuple[Path, str]) -> None:
    agreement = json.loads((whole[0] / "analysis" / "agreement.json").read_text())
    assert set(agreement["methods"]) == {"zero_fisher", "medcore"}
    assert agreement["units"] == {"heads": 4, "neurons": 4}
    stability = json.loads((whole[0] / "analysis" / "stability.json").read_text())
    assert stability["samples"] == [1, 2]
    assert stability["methods"]["medcore"]["heads"]["spearman"][-1] == pytest.approx(1.0)


def test_methods_with_uniform_quotas_are_the_same_in_both_modes(whole: tuple[Path, str]) -> None:
    table = pd.read_csv(whole[0] / "comparison.csv").set_index(["method", "level", "mode"])
    own, same = (table.loc[("random", "h50_m70", mode), "bf1"] for mode in ("own", "same"))
    assert own == same


def test_going_on_computes_nothing_anew(
    whole: tuple[Path, str], pair: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("evaluated again")

    before = _numbers(whole[0])
    monkeypatch.setattr(jobs, "prune", refuse)
    result = _run(_arguments(pair, whole[0], "--methods", METHODS))
    assert result.exit_code == 0, result.output
    assert "work: 51 results (one for each method, level, mode, seed and data set), 51 stored already" in result.output
    assert "if nothing is stored" not in result.output
    assert _numbers(whole[0]) == before


def test_ctrl_c_and_a_kill_lead_to_the_same_numbers(whole: tuple[Path, str], pair: list[str], tmp_path: Path) -> None:
    arguments = _arguments(pair, tmp_path, "--methods", METHODS)
    code, said = _stop(arguments, signal.SIGINT, lambda: len(list(tmp_path.glob("cells/any/*/*.json"))) > 3)
    assert code == 130
    assert re.search(r"stopped; \d+ results are kept in .*: the same command goes on from there", said)
    code, _ = _stop(arguments, signal.SIGKILL, lambda: len(list(tmp_path.glob("cells/same/random/*.json"))) > 3)
    assert code == -signal.SIGKILL
    assert 9 < len(_numbers(tmp_path)) < 51
    evaluated = {path: path.stat().st_mtime_ns for path in (tmp_path / "evaluations").iterdir()}
    result = _run(arguments)
    assert result.exit_code == 0, result.output
    # nothing is evaluated twice
    assert evaluated
    assert all(path.stat().st_mtime_ns == written for path, written in evaluated.items())
    assert _numbers(tmp_path) == _numbers(whole[0])
    assert not [path for path in tmp_path.rglob(".*") if "calibration" not in path.parts]


def _stop(arguments: list[str], how: signal.Signals, when: Callable[[], bool]) -> tuple[int, str]:
    """Start the command, send a signal when it has got far enough; return its exit code and standard error."""
    script = Script("from medcore_prune.benchmarks.cli import main; main()", *arguments)
    try:
        _wait_until(when, script)
    finally:
        script.send(how)
        done = script.wait()
    return done.returncode, done.stderr


def _wait_until(condition: Callable[[], bool], script: Script, seconds: float = 120.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert script.running, "the run ended before it could be killed"
        assert time.monotonic() < end, "the run wrote nothing"
        time.sleep(0.01)


@pytest.fixture
def plugin(tmp_path: Path) -> Iterator[Path]:
    path = tmp_path / "my_weights.py"
    path.write_text(PLUGIN)
    yield path
    if "my_weights" in criteria:
        criteria.unregister("my_weights")


def test_a_registered_criterion_appears_in_table_and_list(alone: list[str], plugin: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    options = ["--methods", "my_weights,magnitude", "--plugin", str(plugin), "--compare", "my_weights", "--no-gallery"]
    result = _run(_arguments(alone, out, *options))
    assert result.exit_code == 0, result.output
    assert "Rank of my_weights" in result.output
    table = pd.read_csv(out / "comparison.csv")
    assert set(table.loc[table["method"] == "my_weights", "level"]) == {"h50_m70"}
    assert not (out / "gallery").exists()
    listed = _run(["list", "--plugin", str(plugin)])
    assert re.search(r"my_weights +free +– +uniform +a test", listed.output)
    # another score under the same name: other plans, which are evaluated, not the old result
    before = _numbers(out)
    plugin.write_text(PLUGIN.replace(".abs()", ".neg()"))
    criteria.unregister("my_weights")
    again = _run(_arguments(alone, out, *options))
    assert again.exit_code == 0, again.output
    changed = [path for path, numbers in _numbers(out).items() if numbers != before[path]]
    assert changed
    assert all("my_weights" in path for path in changed)


def test_a_failing_criterion_is_one_line(pair: list[str], plugin: Path, tmp_path: Path) -> None:
    plugin.write_text(PLUGIN.replace(".abs().mean()", ".nonsense()"))
    result = _run(_arguments(pair, tmp_path / "out", "--methods", "my_weights", "--plugin", str(plugin)))
    assert isinstance(result.exception, MedcorePruneError)
    assert re.fullmatch(
        r"my_weights failed: AttributeError: 'Tensor' object has no attribute 'nonsense' \(my_weights.py, line 8\)",
        str(result.exception),
    )


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--methods", "medcor"], "did you mean 'medcore'"),
        (["--data", "polyps=/nowhere"], "/nowhere: expected a folder"),
        (["--data", "polyps=/nowhere", "--adapted", "/nowhere.pth"], "no such file"),
        (["--data", "a/b=/nowhere"], "data set name 'a/b'"),
        (["--adapted", "/nowhere.pth"], "no such file"),
        (["--plugin", "/nowhere.py"], "there is no such file"),
        (["--compare", "mine"], "--compare: unknown method of this comparison 'mine'"),
        (["--set", "eval_size=64"], "eval_size differ"),
    ],
)
def test_mistakes_are_said_before_any_work(
    whole: tuple[Path, str], pair: list[str], tmp_path: Path, options: list[str], says: str
) -> None:
    out = whole[0] if "--set" in options else tmp_path
    result = _run([*_arguments(pair, out, "--methods", "magnitude"), *options])
    assert isinstance(result.exception, MedcorePruneError)
    assert says in str(result.exception)
    assert not (tmp_path / "cells").exists()


def test_a_reference_is_asked_for(pair: list[str], tmp_path: Path) -> None:
    without = [word for word in pair if "reference" not in word]
    result = _run(_arguments(without, tmp_path, "--methods", "medcore,magnitude"))
    assert "medcore compares with the checkpoint before adaptation: give --reference FILE" in str(result.exception)


def test_a_damaged_result_is_named(alone: list[str], tmp_path: Path) -> None:
    out = tmp_path / "out"
    asked = _arguments(alone, out, "--methods", "magnitude", "--no-gallery")
    assert _run(asked).exit_code == 0
    victim = next(out.glob("cells/own/magnitude/*.json"))
    victim.write_text(victim.read_text()[:50])
    for arguments in (asked, ["report", str(out)]):
        result = _run(arguments)
        assert isinstance(result.exception, MedcorePruneError)
        assert f"{victim} is damaged" in str(result.exception)
    victim.unlink()
    assert _run(asked).exit_code == 0
    assert victim.exists()


def test_a_report_of_nothing_is_an_error(tmp_path: Path) -> None:
    result = _run(["report", str(tmp_path)])
    assert "holds no results" in str(result.exception)


def test_a_report_without_a_finished_row_or_against_an_unknown_method_is_an_error(
    whole: tuple[Path, str], tmp_path: Path
) -> None:
    page = whole[0] / "report.html"
    before = page.read_bytes()
    result = _run(["report", str(whole[0]), "--compare", "medcor"])
    assert "did you mean 'medcore'" in str(result.exception)
    assert page.read_bytes() == before
    (tmp_path / "run.json").write_bytes((whole[0] / "run.json").read_bytes())
    assert "holds no finished row yet" in str(_run(["report", str(tmp_path)]).exception)


def test_a_second_run_on_the_same_folder_is_refused(pair: list[str], tmp_path: Path) -> None:
    with exclusive(tmp_path / "out"):
        result = _run(_arguments(pair, tmp_path / "out", "--methods", "magnitude"))
    assert "another run is writing to" in str(result.exception)
    assert not (tmp_path / "out").exists()


@pytest.fixture
def phantom_folder(tmp_path: Path) -> Path:
    """A folder of images and masks, as a user has it."""
    for kind in ("images", "masks"):
        (tmp_path / "own" / kind).mkdir(parents=True)
    for index, sample in enumerate(phantoms.make("phantom_skin", seed=3, count=10, size=SIZE)):
        imsave(tmp_path / "own/images" / f"{index}.png", sample.image)
        imsave(tmp_path / "own/masks" / f"{index}.png", sample.mask.astype("uint8") * 255, check_contrast=False)
    return tmp_path / "own"


def test_a_folder_goes_through_adaptation_and_comparison_with_one_split(phantom_folder: Path, tmp_path: Path) -> None:
    data = ["--data", f"own={phantom_folder}"]
    adapted = tmp_path / "adapted.pth"
    few = ["--steps", "2", "--image-size", str(SIZE), "--split-seed", "4", "--fractions", "0.6,0.1,0.3"]
    done = CliRunner().invoke(medcore_prune_cli, ["adapt", "pocket", *data, *few, "--out", str(adapted)])
    assert done.exit_code == 0, done.output
    out = tmp_path / "out"
    compared = ["--adapted", str(adapted), "--methods", "magnitude,zero_fisher", "--quick", "--levels", "h50_m70"]
    compared += ["--set", "eval_size=32", "--set", "calibration=2", "--no-gallery", "--out", str(out)]
    result = _run(["baselines", *data, *compared])
    assert result.exit_code == 0, result.output
    # the split of the adaptation, not a new one
    test = json.loads(adapted.with_suffix(".split.json").read_text())["test"]["own"]
    assert len(test) == 3
    tables = [pd.read_csv(path, dtype=str) for path in (out / "evaluations").glob("*.csv")]
    assert tables
    assert all(set(table["name"]) <= set(test) for table in tables)
    # other data sets beside it, here one image less: images that were trained on are not reported on
    for kind in ("images", "masks"):
        (phantom_folder / kind / "0.png").unlink()
    other = ["--data", f"other={phantom_folder}"]
    refused = _run(["baselines", *other, *compared[:-1], str(tmp_path / "refused")])
    assert "was trained on other/" in str(refused.exception)


def test_going_on_with_fewer_methods_keeps_what_was_analysed(alone: list[str], tmp_path: Path) -> None:
    both, one = ("zero_fisher,vanilla_fisher", "zero_fisher")
    assert _run(_arguments(alone, tmp_path, "--methods", both, "--compare", "zero_fisher")).exit_code == 0
    seconds = json.loads((tmp_path / "analysis" / "calibration.json").read_text())["seconds"]
    assert _run(_arguments(alone, tmp_path, "--methods", one, "--compare", "zero_fisher")).exit_code == 0
    for name in ("agreement", "stability"):
        assert set(json.loads((tmp_path / "analysis" / f"{name}.json").read_text())["methods"]) == set(both.split(","))
    predicted = json.loads((tmp_path / "analysis" / "gallery.json").read_text())["pictures"][0]["predicted"]
    assert set(predicted) == {"unpruned", "h50_m70/zero_fisher", "h50_m70/vanilla_fisher"}
    assert json.loads((tmp_path / "analysis" / "calibration.json").read_text())["seconds"] >= seconds


def _folder(place: Path, bad: int = 0) -> Path:
    drawn = CliRunner().invoke(medcore_prune_cli, ["phantoms", "--count", "12", "--size", "48", "--out", str(place)])
    assert drawn.exit_code == 0, drawn.output
    for image in sorted((place / "images").iterdir())[:bad]:
        image.write_bytes(b"no image")
    return place


def test_without_a_reference_methods_that_read_one_are_left_out(
    pair: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    every = ("magnitude", "zero_fisher", "directional", "medcore")
    monkeypatch.setattr("medcore_prune.benchmarks.runner.methods.available_baselines", lambda: every)
    own = ["--data", f"own={_folder(tmp_path / 'set', bad=2)}"]
    asked = [*_arguments(pair[:2], tmp_path / "out", *own), "--no-gallery"]
    refused = _run(asked)
    assert "cannot be read (2)" in str(refused.exception)
    assert "--skip-bad" in str(refused.exception)
    # named, they are wrong usage and not passed over
    for more in (["--methods", "magnitude,medcore"], ["--compare", "directional"]):
        named = _run([*asked, "--skip-bad", *more])
        assert isinstance(named.exception, UnreadableError)
        assert "compares with the checkpoint before adaptation: give --reference FILE" in str(named.exception)
    assert not (tmp_path / "out/run.json").exists()
    result = _run([*asked, "--skip-bad"])
    assert result.exit_code == 0, result.output
    said = "2 methods left out, for there is no checkpoint before adaptation to compare with: directional, medcore"
    assert f"note: {said}; give --reference FILE" in result.output
    report = (tmp_path / "out/report.md").read_text()
    assert f"{said}." in report
    assert "own: 2 left out, 10 used; cannot be read (2): images/" in report
    assert re.search(r"medcore did not take part\. In its place (magnitude|zero_fisher) is compared", report)
    cells = ResultStore.open(tmp_path / "out").cells()
    assert {cell.cell.method for cell in cells if cell.plan} == {"magnitude", "zero_fisher"}


def test_with_a_reference_nothing_is_said_to_be_left_out(whole: tuple[Path, str]) -> None:
    assert "left out" not in whole[1]
    assert "left out" not in (whole[0] / "report.md").read_text()


def _sums(place: Path) -> list[Path]:
    return list(place.rglob("calibration/*/*.safetensors"))


def test_sums_go_once_the_scores_are_kept_and_are_not_needed_again(pair: list[str], tmp_path: Path) -> None:
    def compare(out: Path, methods: str, levels: str, *more: str) -> str:
        words = _arguments(pair, out, "--methods", methods, "--no-gallery", *more)
        result = _run([levels if word == "h50_m70" else word for word in words])
        assert result.exit_code == 0, result.output
        return result.output

    methods, one, both = "zero_fisher,medcore", "h50_m70", "h50_m70,h70_m70"
    # in one go, with sums that somebody wants to keep
    kept, out = tmp_path / "kept", tmp_path / "out"
    compare(kept, methods, both, "--cache", str(kept / "calibration"))
    assert _sums(kept)
    # one level after the other: the second from the scores that are kept
    assert "calibration: " in compare(out, methods, one)
    assert not _sums(out)
    assert 0 < sum(path.stat().st_size for path in (out / "analysis/scores").glob("*-all-*.npz")) < 1e6
    assert "calibration: " not in compare(out, methods, both)
    assert _numbers(out) == _numbers(kept)
    for name in ("agreement", "stability"):
        mine, other = (json.loads((place / f"analysis/{name}.json").read_text()) for place in (out, kept))
        assert mine["methods"] == other["methods"]
        assert mine.get("reference_fisher") == other.get("reference_fisher")
    # what is gone is collected again for a method that is new, or whose scores are damaged
    (out / "analysis/scores/medcore-all-0.npz").write_bytes(b"damaged")
    assert "calibration: " in compare(out, f"{methods},wanda", both)
    numbers = _numbers(out)
    assert {key: numbers[key] for key in _numbers(kept)} == _numbers(kept)
    assert any("wanda" in key for key in numbers)
    assert not _sums(out)


def test_sums_that_code_of_ones_own_reads_stay(alone: list[str], tmp_path: Path) -> None:
    plugin, out = tmp_path / "reads.py", tmp_path / "out"
    plugin.write_text(PLUGIN.replace("my_weights", "my_reader").replace("(group)", "(group, statistics)"))
    try:
        asked = ["--methods", "my_reader", "--compare", "my_reader", "--plugin", str(plugin), "--no-gallery"]
        result = _run(_arguments(alone, out, *asked))
    finally:
        criteria.unregister("my_reader")
    assert result.exit_code == 0, result.output
    assert _sums(out)
    assert not list((out / "analysis").rglob("*-all-*.npz"))
