"""Ways to attend give the same outputs, and the comparison says what it could not run."""

import json
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from tiny import tiny_batch, tiny_sam

from medcore_prune.benchmarks.speed import relative_positions
from medcore_prune.benchmarks.speed.relative_positions import WAYS, attending, command
from medcore_prune.models import sdpa
from medcore_prune.models.families import encoder_of
from medcore_prune.models.sdpa import mask_bytes
from medcore_prune.models.switches import attention_of


@pytest.mark.parametrize("way", WAYS)
def test_each_way_gives_what_segment_anything_gives(way: str) -> None:
    model, images = tiny_sam(), tiny_batch(2)[0]
    with torch.no_grad():
        expected = encoder_of(model)(images)
        with attending(model, way):
            got = encoder_of(model)(images)
    assert torch.allclose(got, expected, atol=1e-5 * float(expected.abs().max()))
    assert attention_of(model) == "segment-anything"


def test_the_command_says_what_it_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> torch.Tensor:
        raise RuntimeError("no kernel here\nand more")

    monkeypatch.setitem(relative_positions.WAYS, "augmented", broken)
    words = ["--batch-size", "1", "--repeats", "1", "--out", str(tmp_path / "found.json")]
    result = CliRunner().invoke(command, words, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    rows = json.loads((tmp_path / "found.json").read_text())["rows"]
    assert len(rows) == 6
    for row in rows:
        if row["precision"] == "tf32":
            assert "cpu has none" in row["left_out"]
        else:
            assert row["augmented_fails"] == "no kernel here"
            assert row["flex_off"] < (1e-5 if row["precision"] == "fp32" else 0.1)
            assert row["mask_ms"] > 0


def test_on_a_gpu_maps_take_a_share_of_what_is_free(monkeypatch: pytest.MonkeyPatch) -> None:
    free, held, used = 70 << 30, 10 << 30, 2 << 30
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _: (free, 80 << 30))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda _: held)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda _: used)
    assert mask_bytes(torch.device("cuda")) == (78 << 30) // 8
    free = held = used = 0
    assert mask_bytes(torch.device("cuda")) == mask_bytes(torch.device("cpu")) == sdpa.MASK_BYTES
