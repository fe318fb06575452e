"""The benchmark of the workflow's steps runs each of them twice, on what it says."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner
from tiny import tiny_sam

from medcore_prune.benchmarks.speed import workflow
from medcore_prune.benchmarks.speed.workflow import LEVELS, command
from medcore_prune.models.fingerprint import computation_hash


def test_every_step_is_timed_and_the_model_left_as_it_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    model = tiny_sam()
    before = computation_hash(model)
    monkeypatch.setattr(workflow, "build_sam", lambda *_, image_size: model)
    out = tmp_path / "workflow.json"
    words = ["--images", "2", "--batch-size", "2", "--attention", "segment-anything", "--repeats", "1"]
    words += ["--out", str(out)]
    result = CliRunner().invoke(command, words, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert found == json.loads(out.read_text())
    assert next(iter(found["steps"])) == "training"
    onnx = {"export to ONNX", "encoder, ONNX"}
    assert len(found["steps"].keys() | found["left_out"]) == 14
    assert found["left_out"].keys() <= onnx
    assert all(step["seconds"] > 0 for step in found["steps"].values())
    # an exporter is not counted, and what is no tensor is not seen
    unseen = onnx | {"metrics"}
    assert all(step["peak_mb"] > 0 for name, step in found["steps"].items() if name not in unseen)
    assert {step["per"] for step in found["steps"].values()} == {"image", "mask", "model"}
    assert found["steps"]["training"]["ratio"] == 1
    recovery, training = (found["steps"][name]["seconds"] for name in ("recovery", "training"))
    assert found["steps"]["recovery"]["ratio"] == pytest.approx(recovery / training, rel=0.01)
    assert found["steps"]["recovery"]["ratio_spread"] == [found["steps"]["recovery"]["ratio"]] * 2
    assert list(found["latency_ms"]) == ["whole", *LEVELS]
    assert computation_hash(model) == before
    assert all(parameter.grad is None for parameter in model.parameters())
