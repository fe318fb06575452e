"""What is said of a model that was made: on validation images alone, beside answers that use no model."""

import json
import math
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from tiny import tiny_sam
from tiny_samples import TinySamples
from torch import nn

import medcore_prune as mp
from medcore_prune.commands.cli import cli
from medcore_prune.commands.work.outputs.judged import Judged, judge
from medcore_prune.commands.work.pruning import time_text
from medcore_prune.data.splits.beside import split_file

FLOORS = {"box": {"dice": 0.7, "bf1": 0.4}, "ellipse": {"dice": 0.8, "bf1": 0.3}}


@pytest.mark.parametrize(
    ("dice", "bf1", "said"),
    [
        (0.81, 0.41, ""),
        (0.8, 0.41, "Dice: the ellipse in the box"),
        (0.81, 0.35, "BF1: the filled box"),
        (0.1, 0.1, "Dice: the ellipse in the box; BF1: the filled box"),
        (math.nan, 0.5, "Dice: the ellipse in the box"),
    ],
)
def test_each_figure_is_held_against_its_best_floor(dice: float, bf1: float, said: str) -> None:
    judged = Judged({"a": 3}, {"a": 3}, {"mine": {"dice": dice, "bf1": bf1}}, FLOORS, ())
    assert judged.below("mine") == said


def nothing_to_run() -> nn.Module:
    """A model that fails when it is run."""

    def never(*_: object) -> None:
        raise AssertionError("a model whose figures are known was run")

    model = tiny_sam()
    model.image_encoder.register_forward_pre_hook(never)
    return model


def test_figures_are_those_of_evaluate_on_the_same_images() -> None:
    sets = {"a": TinySamples("a", 3), "b": TinySamples("b", 2), "none": TinySamples("none", 0)}
    found = judge({"model": tiny_sam()}, sets, 2)
    assert found is not None
    table = mp.evaluate(tiny_sam(), {name: sets[name] for name in "ab"}, progress=False)
    expected = table.groupby("dataset")[["dice", "bf1"]].mean().mean()
    assert found.means["model"] == pytest.approx(expected.to_dict())
    assert (found.images, found.what) == ({"a": 3, "b": 2}, "5 validation images")
    few = judge({"model": tiny_sam()}, sets, 2, most=2)
    assert few is not None
    assert few.what == "4 of 5 validation images"
    assert judge({"model": tiny_sam()}, {"none": sets["none"]}, 2) is None
    # what is known is not run, and floors are what they were
    told = {"known": {"bf1": 0.5, "dice": 0.25}}
    known = judge({"model": tiny_sam(), "known": nothing_to_run()}, sets, 2, known=told)
    assert known is not None
    assert known.means == {**found.means, "known": {"dice": 0.25, "bf1": 0.5}}
    assert (known.floors, list(known.tables)) == (found.floors, ["model"])
    alone = judge({"known": nothing_to_run()}, sets, 2, known=told)
    assert alone is not None
    assert (alone.floors, alone.below("known")) == (found.floors, known.below("known"))


def test_a_slower_model_is_said_to_be_slower() -> None:
    assert "10.0 ms -> 4.0 ms an image (60.0% off)" in time_text(10.0, 4.0, "cpu")
    assert "10.0 ms -> 12.0 ms an image (20.0% more)" in time_text(10.0, 12.0, "cpu")


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    drawn = CliRunner().invoke(cli, ["phantoms", "--count", "12", "--size", "48", "--out", "set"])
    assert drawn.exit_code == 0, drawn.output
    mp.save(tiny_sam(), "whole.safetensors")
    return tmp_path


def prune(*words: str) -> Result:
    asked = ["prune", "whole.safetensors", "--data", "own=set", "--method", "magnitude", "--out", "small.safetensors"]
    return CliRunner().invoke(cli, [*asked, *words])


def test_prune_judges_on_validation_images_alone(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("medcore_prune.commands.work.prune._JUDGED", 2)
    sets = {"own": mp.data.folder("set", name="own")}
    mp.data.split(sets, fractions=(0.5, 0.3, 0.2)).save(split_file("whole.safetensors"))
    result = prune()
    assert result.exit_code == 0, result.output
    roles = mp.data.Split.load(split_file("small.safetensors"), sets)
    count = len(roles.validation["own"])
    assert count > 2
    chosen = {"own": mp.data.samples.at_most(roles.validation["own"], 2)}
    whole, small = (mp.evaluate(mp.load(f"{name}.safetensors"), chosen, progress=False) for name in ("whole", "small"))
    texts = [
        f"{name} {whole[key].mean():.4f} -> {small[key].mean():.4f}" for name, key in (("BF1", "bf1"), ("Dice", "dice"))
    ]
    assert f"contour: {', '.join(texts)}, on 2 of {count} validation images" in result.output
    assert (
        "on all of them: medcore-prune evaluate small.safetensors --against whole.safetensors --data own=set"
        in result.output
    )
    record = json.loads((here / "small.report.json").read_text())["validation"]
    assert record["images"] == {"own": 2}
    assert record["models"]["after"]["bf1"] == small["bf1"].mean()
    assert (
        f"| after | {small['dice'].mean():.4f} | {small['bf1'].mean():.4f} |" in (here / "small.report.md").read_text()
    )
    lines = result.output.splitlines()
    assert sum(line.startswith("time: ") and "this machine" in line for line in lines) == 1
    assert sum(line.startswith("size: ") for line in lines) == 1
    assert not any(word in result.output for word in ("passes", "residual", "relative difference", "FLOPs"))


def test_without_validation_images_prune_says_how_to_measure(here: Path) -> None:
    sets = {"own": mp.data.folder("set", name="own")}
    mp.data.split(sets, fractions=(0.6, 0.0, 0.4)).save(split_file("whole.safetensors"))
    result = prune()
    assert result.exit_code == 0, result.output
    assert "contour:" not in result.output
    said = "on test images: medcore-prune evaluate small.safetensors --against whole.safetensors --data own=set"
    assert said in result.output
    assert json.loads((here / "small.report.json").read_text())["validation"] is None
    again = CliRunner().invoke(cli, said.split("medcore-prune ")[1].split())
    assert again.exit_code == 0, again.output
