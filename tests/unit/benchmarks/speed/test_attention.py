"""The speed comparison of attentions runs, and what it times is told apart."""

import json
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from tiny import tiny_sam
from torch import nn

from medcore_prune.benchmarks.speed import attention
from medcore_prune.benchmarks.speed.attention import (
    KINDS,
    TRANSFORMERS,
    WAYS,
    TransformersEncoder,
    command,
    measure,
    transformers_encoder,
)
from medcore_prune.models.families import encoder_of
from medcore_prune.models.sam_shape import SamShape
from medcore_prune.models.segment_anything import build_sam
from medcore_prune.models.switches import attention_of


def test_each_way_runs_each_kind(monkeypatch: pytest.MonkeyPatch) -> None:
    model, ran = tiny_sam(), []

    def record(encoder: nn.Module, images: torch.Tensor) -> None:
        ran.append(TRANSFORMERS if isinstance(encoder, TransformersEncoder) else attention_of(model))
        torch.zeros(1000)

    monkeypatch.setitem(WAYS, "forward", record)
    result = measure(model, repeats=2)
    # one round warms up, two count, and one is for the memory
    assert ran == [*KINDS, *([TRANSFORMERS] if find_spec(TRANSFORMERS) else [])] * 4
    assert attention_of(model) == "segment-anything"
    assert all(parameter.grad is None for parameter in model.parameters())
    assert all(result[f"forward_backward_{kind}_ms"] > 0 for kind in KINDS)
    assert result["image_size"] == 48


def test_memory_ratio_of_a_large_map() -> None:
    model = build_sam(SamShape(256, 8, 24, 1, 2, (0,), 4, 16, 2, 32, 16))  # 1024 tokens
    result = measure(model, repeats=1)
    expected = result["forward_backward_sdpa_peak_mb"] / result["forward_backward_segment-anything_peak_mb"]
    assert result["forward_backward_sdpa_memory_ratio"] == pytest.approx(expected, rel=0.02)
    assert result["forward_backward_sdpa_memory_ratio"] < 0.7


def test_transformers_computes_the_same() -> None:
    pytest.importorskip(TRANSFORMERS)
    model = tiny_sam()
    images = torch.rand((2, 3, 48, 48), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected, got = encoder_of(model)(images), transformers_encoder(model)(images)
    torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-5 * float(expected.abs().max()))


def test_what_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attention, "find_spec", lambda _: None)
    result = measure(tiny_sam(), repeats=1)
    assert result["left_out"] == {TRANSFORMERS: "not installed"}
    assert not [key for key in result if TRANSFORMERS in key]


def test_command_writes_what_it_prints(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(attention, "build_sam", lambda *_, image_size: tiny_sam())
    out = tmp_path / "attention.json"
    result = CliRunner().invoke(command, ["--model", "pocket", "--repeats", "1", "--out", str(out)])
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout) == json.loads(out.read_text())
    assert json.loads(result.stdout)["models"]["pocket"]["forward_sdpa_ms"] > 0
