import json

import pytest
from click.testing import CliRunner
from tiny import tiny_sam

from medcore_prune.benchmarks.speed import directional
from medcore_prune.benchmarks.speed.directional import WAYS, command, measure, stored_bytes
from medcore_prune.calibration.sums import Accumulator
from medcore_prune.models.segment_anything import build_sam


def test_stored_bytes_are_those_of_the_sums() -> None:
    model, reference = tiny_sam(), tiny_sam(seed=1)
    for kinds in WAYS.values():
        sums = Accumulator(model, kinds, reference=reference).sums
        assert stored_bytes(model, kinds) == sum(t.numel() * 4 for tensors in sums.values() for t in tensors.values())


def test_directional_statistics_of_vit_b_are_kilobytes() -> None:
    model = build_sam("vit_b", device="meta")
    assert stored_bytes(model, WAYS["directional"]) == 2 * 3 * 12 * (12 + 3072) * 4
    assert stored_bytes(model, WAYS["diagonal"]) > 1e9
    assert stored_bytes(model, WAYS["gram"]) == 12 * (768**2 + 3072**2) * 4


def test_every_way_is_measured() -> None:
    result = measure(tiny_sam(), tiny_sam(seed=1), batch_size=2, repeats=1)
    for name in WAYS:
        assert result[f"{name}_ms"] > 0
        assert result[f"{name}_peak_mb"] > 0
    assert result["zero_over_diagonal"] == pytest.approx(result["zero_ms"] / result["diagonal_ms"], rel=0.2)
    assert result["directional_stored_over_diagonal"] < 0.05


def test_the_command_prints_json(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(directional, "build_sam", lambda kind, device, image_size, seed: tiny_sam(seed))
    result = CliRunner().invoke(command, ["--batch-size", "1", "--repeats", "1"])
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["directional_over_diagonal"] > 0
