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
