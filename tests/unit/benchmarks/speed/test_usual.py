"""Ours and what one would take otherwise make the same cut and the same masks."""

import json

import pytest
import torch
from click.testing import CliRunner
from tiny import tiny_sam

from medcore_prune.benchmarks.speed import usual
from medcore_prune.benchmarks.speed.usual import BOXES, command, cut, cut_by_torch_pruning, differences, measure
from medcore_prune.models.families import blocks_of
from medcore_prune.models.fingerprint import computation_hash


def test_both_sides_make_the_same_and_the_model_is_left() -> None:
    model = tiny_sam()
    before = computation_hash(model)
    found = measure(model, repeats=1)
    assert computation_hash(model) == before
    assert found["cut_differences"] == 0
    for count in BOXES:
        assert found[f"predict_{count}_pixels"] == count * 48 * 48
        # a logit that rounds to the other side of 0
        assert found[f"predict_{count}_differences"] <= 2 * count
        ratio = found[f"predict_{count}_usual_ms"] / found[f"predict_{count}_ours_ms"]
        assert found[f"predict_{count}_usual_over_predict_{count}_ours"] == pytest.approx(ratio, rel=0.2)


def test_the_cut_takes_what_the_level_says_and_differences_are_seen() -> None:
    small = cut(tiny_sam())
    assert [(block.num_heads, block.neurons) for block in blocks_of(small)] == [(2, 48)] * 4
    other = cut_by_torch_pruning(tiny_sam())
    assert differences(small, other) == 0
    with torch.no_grad():
        next(other.parameters()).add_(1.0)
    assert differences(small, other) == 1
    assert differences(small, tiny_sam()) > 10


def test_the_command_prints_json(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(usual, "build_sam", lambda *_, image_size: tiny_sam())
    result = CliRunner().invoke(command, ["--repeats", "1"], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["versions"].keys() >= {"torch-pruning", "segment-anything"}
