import json
from pathlib import Path

import pytest
from click.testing import CliRunner
from tiny import tiny_sam

import medcore_prune as mp
from medcore_prune.commands.cli import cli
from medcore_prune.data.splits.beside import split_file

pytest.importorskip("onnxruntime")


def test_images_that_a_model_was_trained_on_serve_to_compare_two_programs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert CliRunner().invoke(cli, ["phantoms", "--count", "10", "--size", "48", "--out", "set"]).exit_code == 0
    mp.save(tiny_sam(), "model.safetensors")
    mp.data.split({"own": mp.data.folder("set", name="own")}).save(split_file("model.safetensors"))
    words = "export model.safetensors --part encoder --data own=set --images 2 --out onnx"
    result = CliRunner().invoke(cli, words.split())
    assert result.exit_code == 0, (result.output, result.exception)
    assert [part["images"] for part in json.loads((tmp_path / "onnx/comparison.json").read_text())["parts"]] == [2]


INT8 = "export model.safetensors --part encoder --int8 --data own=set --out onnx"


@pytest.fixture
def trained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with images, a model, and the split that it was trained on beside it."""
    monkeypatch.chdir(tmp_path)
    assert CliRunner().invoke(cli, ["phantoms", "--count", "20", "--size", "48", "--out", "set"]).exit_code == 0
    mp.save(tiny_sam(), "model.safetensors")
    mp.data.split({"own": mp.data.folder("set", name="own")}).save(split_file("model.safetensors"))
    return tmp_path


def test_int8_is_judged_on_the_validation_images_of_the_split(trained: Path) -> None:
    result = CliRunner().invoke(cli, f"{INT8} --images 2".split())
    assert result.exit_code == 0, (result.output, result.exception)
    record = json.loads((trained / "onnx/comparison.json").read_text())
    split = mp.data.Split.load(split_file("model.safetensors"), {"own": mp.data.folder("set", name="own")})
    assert record["int8"]["images"] == {"own": len(split.validation["own"])}
    model = mp.load("model.safetensors")
    expected = mp.evaluate(mp.OnnxModel(model, "onnx/encoder_int8.onnx"), split.validation, progress=False)
    for name, shown in (("dice", "Dice"), ("bf1", "BF1"), ("hd95_px", "HD95 px")):
        found = record["int8"]["metrics"][name]
        assert found["int8_value"] == pytest.approx(expected[name].mean(), abs=1e-6)
        line = next(line for line in result.stdout.splitlines() if line.startswith(shown))
        form = ".2f" if name == "hd95_px" else ".4f"
        assert f"{found['float_value']:{form}}" in line
        assert f"{found['low']:+{form}} to {found['high']:+{form}}" in line
    assert "written: encoder.onnx, encoder_int8.onnx and comparison.json" in result.stdout


def test_int8_without_the_encoder_is_wrong_usage(trained: Path) -> None:
    result = CliRunner().invoke(cli, ["export", "model.safetensors", "--part", "whole", "--int8"])
    assert (result.exit_code, "give --part encoder or all" in result.output) == (2, True)
    assert not (trained / "onnx").exists()


def test_an_int8_file_that_is_there_is_kept(trained: Path) -> None:
    (trained / "onnx").mkdir()
    (trained / "onnx/encoder_int8.onnx").write_text("mine")
    result = CliRunner().invoke(cli, INT8.split())
    assert "already there: onnx/encoder_int8.onnx" in str(result.exception)
    assert [path.name for path in (trained / "onnx").iterdir()] == ["encoder_int8.onnx"]


def test_the_folder_is_complete_for_whoever_has_no_package(trained: Path) -> None:
    result = CliRunner().invoke(cli, ["export", "model.safetensors", "--images", "2", "--out", "onnx"])
    assert result.exit_code == 0, (result.output, result.exception)
    assert "for whoever has no medcore-prune: onnx/README.md and segment.py" in result.stdout
    shown = {path.name for path in (trained / "onnx").iterdir() if not path.name.startswith(".")}
    parts = {"encoder.onnx", "decoder.onnx", "whole.onnx"}
    assert shown == parts | {"comparison.json", "README.md", "segment.py"}


def test_a_readme_of_somebody_else_is_kept(trained: Path) -> None:
    (trained / "README.md").write_text("mine")
    result = CliRunner().invoke(cli, ["export", "model.safetensors", "--part", "decoder", "--out", "."])
    assert "README.md is not of an export" in str(result.exception)
    assert ((trained / "README.md").read_text(), (trained / "decoder.onnx").exists()) == ("mine", False)
