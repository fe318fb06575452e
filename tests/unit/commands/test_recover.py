from pathlib import Path

import pandas as pd
import pytest
import torch
from click.testing import CliRunner, Result
from tiny import tiny_sam

import medcore_prune as mp
from medcore_prune._support.errors import CheckpointError, DataError
from medcore_prune._support.progress import track
from medcore_prune.checkpoints.pruned import read_header
from medcore_prune.commands.cli import cli
from medcore_prune.data.splits.beside import split_file
from medcore_prune.evaluation.intervals import Difference, paired_difference
from medcore_prune.models.fingerprint import model_hash
from medcore_prune.pruning.surgery import lineage_of
from medcore_prune.training.average import SHARES
from medcore_prune.training.record import Scores


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    drawn = CliRunner().invoke(cli, ["phantoms", "--count", "10", "--size", "48", "--out", "set"])
    assert drawn.exit_code == 0, drawn.output
    model = tiny_sam()
    mp.save(model, "whole.safetensors")
    mp.save(mp.prune(model, mp.make_plan(model, "h50_m50")), "small.safetensors", provenance={"method": "none"})
    mp.data.split({"own": mp.data.folder("set", name="own")}, seed=5).save(split_file("small.safetensors"))
    return tmp_path


WORDS = ("small.safetensors", "--teacher", "whole.safetensors", "--data", "own=set")


def run(*words: str) -> Result:
    return CliRunner().invoke(cli, ["recover", *WORDS, *words])


def test_a_recovered_file_keeps_its_plan_and_says_how_it_came_about(here: Path) -> None:
    result = run("--steps", "3", "--batch-size", "2", "--validate-every", "2", "--out", "out.safetensors")
    assert result.exit_code == 0, result.output
    assert "split: the one beside small.safetensors" in result.output
    before, after = mp.load("small.safetensors"), mp.load("out.safetensors")
    assert lineage_of(after).plan == lineage_of(before).plan
    found = read_header("out.safetensors").provenance
    assert found["method"] == "none"
    assert found["recovered"]["settings"]["steps"] == 3
    assert found["recovered"]["settings"]["batch_size"] == 2
    assert found["recovered"]["from"] == model_hash(before)
    assert "passes" not in result.output
    assert "loss" not in result.output.replace("out.loss", "")
    said = {0: "nothing gained: use the input file, small.safetensors", 2: "too few to tell", 3: "too few to tell"}
    assert said[found["recovered"]["best_step"]] in result.output
    assert found["recovered"]["validations"]["step"] == [0, 2, 3] == list(pd.read_csv("out.validation.csv")["step"])
    assert found["recovered"]["validations"]["bf1"][0] == found["recovered"]["validation_before"]["bf1"]
    assert found["recovered"]["teacher"] == model_hash(mp.load("whole.safetensors"))
    assert list(pd.read_csv("out.loss.csv")["step"]) == [1, 2, 3]
    assert (here / "out.loss.png").stat().st_size > 1000
    assert split_file("out.safetensors").read_text() == split_file("small.safetensors").read_text()
    assert not (here / "out.state.pt").exists()


def test_an_average_is_asked_for_and_recorded(here: Path) -> None:
    words = ("--steps", "2", "--validate-every", "0")
    result = run(*words, "--average", "--out", "out.safetensors")
    assert result.exit_code == 0, result.output
    found = read_header("out.safetensors").provenance["recovered"]
    assert found["settings"]["average"] is True
    assert sorted(look["share"] for look in found["averages"]) == sorted(SHARES)
    assert found["averages"][0]["share"] == 0 or "the last weights" in found["outcome"]
    again = run(*words, "--average", "--out", "out.safetensors")
    assert "are there, written by this command from the same inputs" in again.output
    assert "already there" in str(run(*words, "--out", "out.safetensors").exception)


@pytest.mark.parametrize(
    ("provenance", "said"),
    [
        ({"before": [{"adapted": {"sha256": model_hash(tiny_sam(0))}}]}, False),
        ({"adapted": {"sha256": model_hash(tiny_sam(1))}}, True),
        ({"adapted": "mine.pth", "before": 3}, False),
    ],
)
def test_another_teacher_than_the_parent_is_said(here: Path, provenance: dict[str, object], said: bool) -> None:
    small = mp.prune(tiny_sam(), mp.make_plan(tiny_sam(), "h50_m50"))
    mp.save(small, "small.safetensors", provenance=provenance)
    result = run("--steps", "1", "--validate-every", "0", "--out", "out.safetensors")
    assert result.exit_code == 0, result.output
    assert ("small.safetensors was not cut from this --teacher" in result.output) is said


def test_a_stopped_run_goes_on_to_the_same_weights(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    words = ("--steps", "4", "--validate-every", "0")
    whole = run(*words, "--out", "whole-run.safetensors")
    assert whole.exit_code == 0, whole.output

    def stops(items, label, **given):  # type: ignore[no-untyped-def]
        for place, item in enumerate(track(items, label, **given)):
            if label == "recovery" and place == 2:
                raise KeyboardInterrupt
            yield item

    (here / "stopped.safetensors").write_bytes(b"an older run's")
    with monkeypatch.context() as patch:
        patch.setattr("medcore_prune.training.loop.track", stops)
        patch.setattr("medcore_prune.training.settings._SAVE_EVERY", 1)
        stopped = run(*words, "--out", "stopped.safetensors", "--overwrite")
    assert stopped.exit_code != 0
    assert (here / "stopped.state.pt").exists()
    assert (here / "stopped.safetensors").read_bytes() == b"an older run's"
    monkeypatch.setattr("medcore_prune.training.settings._SAVE_EVERY", 1)
    # starting over would lose the older run's; going on was allowed when it began
    assert "already there" in str(run(*words, "--out", "stopped.safetensors", "--fresh").exception)
    assert (here / "stopped.state.pt").exists()
    again = run(*words, "--out", "stopped.safetensors")
    assert again.exit_code == 0, again.output
    first, second = (mp.load(name).state_dict() for name in ("whole-run.safetensors", "stopped.safetensors"))
    assert all(torch.equal(value, second[name]) for name, value in first.items())


@pytest.mark.parametrize(
    ("words", "kind", "message"),
    [
        (["--out", "a.pth"], CheckpointError, r"ends in \.safetensors"),
        (["--teacher", "nowhere.safetensors"], CheckpointError, "no such file"),
        (["--data", "own=nowhere"], DataError, "nowhere"),
    ],
)
def test_mistakes_leave_nothing_behind(here: Path, words: list[str], kind: type, message: str) -> None:
    before = set(here.iterdir())
    # a later option replaces an earlier one; --data is given a second time under one name
    result = run(*words)
    assert isinstance(result.exception, kind), result.output
    with pytest.raises(kind, match=message):
        raise result.exception
    assert set(here.iterdir()) == before


def test_a_recovery_that_gained_nothing_says_so(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    looks = iter([0.4, 0.3, 0.2])

    def judge(*_: object) -> Scores:
        return Scores({"bf1": next(looks), "dice": 0.8}, {"0": torch.zeros(2)}, {"0": ["a", "b"]})

    monkeypatch.setattr("medcore_prune.training.judge.Judge.__call__", judge)
    result = run("--steps", "2", "--validate-every", "1", "--out", "out.safetensors")
    assert result.exit_code == 0, result.output
    assert "validation images: BF1 0.4000 -> 0.4000, Dice 0.8000 -> 0.8000\n" in result.output
    assert "nothing gained: use the input file, small.safetensors; out.safetensors holds the same" in result.output
    outcome = "nothing gained: the input model is returned"
    assert read_header("out.safetensors").provenance["recovered"]["outcome"] == outcome
    before, after = (mp.load(name).state_dict() for name in ("small.safetensors", "out.safetensors"))
    assert all(torch.equal(value, after[name]) for name, value in before.items())


@pytest.mark.parametrize(
    ("gain", "said"),
    [
        (Difference(0.02, 0.01, 0.03, 10), "gained: BF1 +0.0200 [+0.0100, +0.0300] (95 % interval) on the validation"),
        (
            Difference(0.002, -0.001, 0.005, 10),
            "no gain that is sure: BF1 +0.0020 [-0.0010, +0.0050] on the",
        ),
        (Difference(0.002, -0.001, 0.005, 10), "within its noise: the weights after step 1 are returned as out.saf"),
        (Difference(0.02, 0.01, 0.03, 9), "of 9 groups of images, too few to tell: the weights after step 1"),
    ],
)
def test_a_rise_is_a_gain_where_it_is_more_than_its_noise(
    here: Path, monkeypatch: pytest.MonkeyPatch, gain: Difference, said: str
) -> None:
    looks = iter([0.4, 0.5, 0.2])

    def judge(*_: object) -> Scores:
        return Scores({"bf1": next(looks), "dice": 0.8}, {"0": torch.zeros(2)}, {"0": ["a", "b"]})

    monkeypatch.setattr("medcore_prune.training.judge.Judge.__call__", judge)
    monkeypatch.setattr("medcore_prune.commands.work.outputs.judged.Judged.gain", lambda *_: gain)
    result = run("--steps", "2", "--validate-every", "1", "--verbose", "--out", "out.safetensors")
    assert "BF1 0.4000 -> 0.5000" in result.output
    assert said in result.output
    found = read_header("out.safetensors").provenance["recovered"]
    # which weights are kept does not depend on it
    assert (found["best_step"], found["gain"]) == (1, vars(gain))
    assert "passes" in result.output
    assert "means of the first and the last" in result.output


def test_the_gain_is_the_paired_difference_of_both_files_on_validation_images(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks = iter([0.4, 0.5])

    def judge(*_: object) -> Scores:
        return Scores({"bf1": next(looks), "dice": 0.8}, {"0": torch.zeros(2)}, {"0": ["a", "b"]})

    monkeypatch.setattr("medcore_prune.training.judge.Judge.__call__", judge)
    result = run("--steps", "1", "--validate-every", "1", "--learning-rate", "0.01", "--out", "out.safetensors")
    assert result.exit_code == 0, result.output
    sets = {"own": mp.data.folder("set", name="own")}
    validation = mp.data.Split.load(split_file("out.safetensors"), sets).validation
    tables = [mp.evaluate(mp.load(f"{name}.safetensors"), validation, progress=False) for name in ("out", "small")]
    expected = paired_difference(*tables, "bf1")
    assert read_header("out.safetensors").provenance["recovered"]["gain"] == pytest.approx(vars(expected))


def test_a_recovery_that_nothing_judged_does_not_say_that_it_gained(here: Path) -> None:
    result = run("--steps", "1", "--validate-every", "0", "--out", "out.safetensors")
    assert "gained" not in result.output
    assert "not judged: no validation images chose, so out.safetensors holds the last weights" in result.output


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--ray", "auto"), "--ray says where other processes train, --processes how many: give both"),
        (("--processes", "2"), "give both"),
        (("--ray", "auto", "--processes", "1"), "1 is not in the range x>=2"),
        (("--ray", "auto", "--processes", "2", "--device", "cuda"), "--ray computes on processors"),
    ],
)
def test_processes_on_a_cluster_that_cannot_be_are_wrong_usage(
    words: tuple[str, ...], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(cli, ["recover", "small.safetensors", *words])
    assert result.exit_code == 2
    assert said in " ".join(result.output.split())


def test_torchrun_and_a_cluster_do_not_both_start_processes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name, value in {"TORCHELASTIC_RUN_ID": "test", "WORLD_SIZE": "2"}.items():
        monkeypatch.setenv(name, value)
    result = CliRunner().invoke(cli, ["recover", "small.safetensors", "--ray", "auto", "--processes", "2"])
    assert result.exit_code == 2
    assert "--ray starts processes, and so does torchrun" in result.output
