import json

import pytest
from click.testing import CliRunner
from tiny import tiny_sam

from medcore_prune.benchmarks.speed import correction
from medcore_prune.benchmarks.speed.correction import command, measure


def test_models_together_share_the_runs_of_the_teacher() -> None:
    result = measure(tiny_sam(), models=3, images=2, repeats=1)
    # two images more to check the streams, in every correction
    assert result["alone_teacher_runs"] == 3 * (2 + 2) / (2 * 3)
    assert result["together_teacher_runs"] == pytest.approx((2 + 2) / (2 * 3), abs=1e-3)
    assert result["largest_difference"] == 0.0
    assert result["together_over_alone"] == pytest.approx(result["together_ms"] / result["alone_ms"], rel=0.2)


def test_the_command_prints_json(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(correction, "pocket", lambda _role, _device: tiny_sam())
    result = CliRunner().invoke(command, ["--models", "1", "--images", "1", "--repeats", "1"])
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["together_over_alone"] > 0
