"""The comparison of recipes runs, and measures what it says."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner
from tiny import tiny_sam

from medcore_prune.benchmarks.speed import int8
from medcore_prune.benchmarks.speed.int8 import FLOAT, RECIPES, command, measure
from medcore_prune.checkpoints.onnx import int8 as quantising
from medcore_prune.checkpoints.onnx.export import export_onnx
from medcore_prune.checkpoints.onnx.int8 import Int8Recipe, adds_right
from medcore_prune.commands.work.phantoms import run as draw
from medcore_prune.models.families import build_model

pytest.importorskip("onnxruntime")


def test_the_default_comes_first_and_others_differ_in_one_thing() -> None:
    first, *others = RECIPES.values()
    assert first == Int8Recipe()
    assert all(sum(vars(each)[key] != value for key, value in vars(first).items()) == 1 for each in others)


def test_every_recipe_is_measured_beside_float(tmp_path: Path) -> None:
    export_onnx(tiny_sam(), tmp_path / "float.onnx", "encoder")
    found = measure(tmp_path, 48, rounds=2, threads=1, contours=lambda recipe: {"bf1": [len(recipe), 0, 0]})
    assert list(found) == [FLOAT, *RECIPES]
    assert (found[FLOAT]["time_ratio"], found[FLOAT]["relative_rms"], found[FLOAT]["differences"]) == (1, 0, {})
    for name, recipe in RECIPES.items():
        assert (found[name]["linears"], found[name]["convolutions"]) == (16, 3 if recipe.convolutions == "int8" else 0)
        assert found[name]["relative_rms"] > 0
        assert found[name]["relative_rms"] < 0.1 or not adds_right(recipe)
        assert 0 < found[name]["file_mb"] < found[FLOAT]["file_mb"]
        assert found[name]["differences"] == {"bf1": [len(name), 0, 0]}


def test_the_command_judges_the_built_in_model(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(int8, "read_model", lambda *_, image_size: tiny_sam())
    out = tmp_path / "int8.json"
    result = CliRunner().invoke(command, ["--rounds", "1", "--images", "2", "--out", str(out)], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    record = json.loads(out.read_text())
    assert json.loads(result.stdout) == record
    right = [name for name, recipe in RECIPES.items() if adds_right(recipe)]
    assert len(right) == len(RECIPES) - record["saturates"]
    for recipe in right:
        value, low, high = record["recipes"][recipe]["differences"]["bf1"]
        assert low <= value <= high


def test_a_recipe_whose_sums_overflow_is_timed_but_not_judged(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(int8, "read_model", lambda *_, image_size: tiny_sam())
    monkeypatch.setattr(int8, "adds_right", lambda recipe: recipe.reduce_range)
    result = CliRunner().invoke(command, ["--rounds", "1", "--images", "2"], catch_exceptions=False)
    found = json.loads(result.stdout)["recipes"]
    assert found["8 bits"]["differences"] == {}
    assert found["8 bits"]["median_ms"] > 0
    assert all(found[name]["differences"] for name, recipe in RECIPES.items() if recipe.reduce_range)


def test_a_recipe_that_is_too_far_from_float_is_timed_but_not_judged(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(int8, "read_model", lambda *_, image_size: tiny_sam())
    monkeypatch.setattr(quantising, "LARGEST_RMS", 1e-6)
    result = CliRunner().invoke(command, ["--rounds", "1", "--images", "2"], catch_exceptions=False)
    assert all(each["differences"] == {} for each in json.loads(result.stdout)["recipes"].values())


def test_an_encoder_with_convolutions_is_judged_where_images_are_given(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(int8, "read_model", lambda *_, image_size: build_model("lite_medsam", image_size=64))
    draw("phantom_skin", 2, 64, 0, tmp_path / "set")
    words = ["--model", "lite_medsam", "--rounds", "1"]
    result = CliRunner().invoke(command, words, catch_exceptions=False)
    found = json.loads(result.stdout)["recipes"]["convolutions too"]
    assert found["linears"] == 40
    assert found["convolutions"] > 20
    assert found["differences"] == {}
    words += ["--data", f"own={tmp_path / 'set'}", "--images", "2"]
    result = CliRunner().invoke(command, words, catch_exceptions=False)
    judged = json.loads(result.stdout)["recipes"]["one scale a layer"]
    assert judged["differences"].keys() == {"dice", "bf1", "hd95_px"}
