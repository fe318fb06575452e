"""A forgotten word never means the built-in phantom model where images are one's own."""

from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from tiny import tiny_sam

import medcore_prune as mp
from medcore_prune._support.errors import CheckpointError
from medcore_prune.benchmarks.cli import cli as bench
from medcore_prune.commands.cli import cli
from medcore_prune.models.fingerprint import model_hash

DATA = "--data own=set"
TAKEN = {
    "prune": f"prune {DATA} --method magnitude --out s.safetensors",
    "adapt": f"adapt {DATA} --steps 1 --out a.pth",
    "evaluate": f"evaluate {DATA}",
    "evaluate against": f"evaluate --against whole.safetensors {DATA}",
    "export": f"export --part encoder {DATA} --out onnx",
}


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MEDCORE_PRUNE_CACHE", str(tmp_path / "cache"))
    assert run("phantoms --count 10 --size 48 --out set").exit_code == 0
    return tmp_path


def run(words: str, program=cli) -> Result:
    return CliRunner().invoke(program, words.split())


@pytest.mark.parametrize("name", TAKEN)
def test_images_of_ones_own_need_a_model_that_is_named(here: Path, name: str) -> None:
    mp.save(tiny_sam(), "whole.safetensors")
    if name == "export":
        pytest.importorskip("onnxruntime")
    before = sorted(here.rglob("*"))
    result = run(TAKEN[name])
    command = name.split()[0]
    assert isinstance(result.exception, CheckpointError)
    assert str(result.exception) == (
        f"--data names images of yours, but no model is named: {command} FILE --data ...; to take the built-in phantom "
        f"model on purpose, {command} pocket --data ..."
    )
    assert sorted(here.rglob("*")) == before


def test_the_built_in_model_may_be_named(here: Path) -> None:
    result = run(f"evaluate pocket {DATA} --images 1 --eval-size 16")
    assert result.exit_code == 0, (result.output, result.exception)


def test_comparisons_need_it_too() -> None:
    result = run(f"baselines {DATA} --quick --out results", bench)
    assert isinstance(result.exception, CheckpointError)
    assert "give --adapted FILE; --adapted pocket is the built-in phantom model" in str(result.exception)


def test_comparisons_take_the_built_in_model_by_its_name(here: Path) -> None:
    from medcore_prune.benchmarks.runner.inputs import load_models
    from medcore_prune.benchmarks.runner.settings import Settings

    named = load_models(Settings(here / "out", adapted="pocket", data=("own=set",)))
    plain = load_models(Settings(here / "out"))
    assert [model_hash(model) for model in named] == [model_hash(model) for model in plain]


def test_an_image_without_a_model_is_asked_for_it() -> None:
    result = run("predict set/images/s0_000000.png --box 4,5,30,35")
    assert result.exit_code == 2
    assert "expected a model, then an image: predict FILE set/images/s0_000000.png; pocket is the built-in" in (
        result.output
    )


def cut(model, place: str, **provenance: object) -> None:
    mp.save(mp.prune(model, mp.plan(model, "h50_m50", "magnitude")), place, provenance=provenance)


RECOVER = "recover small.safetensors --steps 1 --validate-every 0 --out out.safetensors"


@pytest.mark.parametrize("data", ["", DATA])
def test_the_teacher_of_a_file_that_knows_its_parent_is_not_guessed(data: str) -> None:
    parent = {"adapted": {"sha256": model_hash(tiny_sam(0))}, "files": {"adapted": "mine.pth"}}
    cut(tiny_sam(0), "small.safetensors", **parent)
    result = run(f"{RECOVER} {data}")
    assert isinstance(result.exception, CheckpointError)
    assert str(result.exception) == (
        "small.safetensors was cut from mine.pth: give that as --teacher FILE; --teacher pocket is the built-in "
        "phantom model"
    )


def test_a_file_that_knows_no_parent_needs_a_teacher_for_ones_own_images() -> None:
    cut(mp.zoo.pocket("adapted"), "small.safetensors")
    result = run(f"{RECOVER} {DATA}")
    assert "was cut from a model that it does not name: give that as --teacher FILE" in str(result.exception)


def test_what_was_cut_from_the_built_in_model_learns_from_it() -> None:
    whole = mp.zoo.pocket("adapted")
    cut(whole, "small.safetensors", adapted={"sha256": model_hash(whole)})
    result = run(f"{RECOVER} {DATA} --steps 1")
    assert result.exit_code == 0, (result.output, result.exception)
    assert "was not cut from this --teacher" not in result.output
