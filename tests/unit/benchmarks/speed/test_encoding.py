import json

import pytest
from click.testing import CliRunner
from tiny import tiny_sam

from medcore_prune.benchmarks.speed import encoding
from medcore_prune.benchmarks.speed.encoding import command, measure
from medcore_prune.models.families import encoder_of


def test_both_ways_say_the_same_and_one_encodes_less() -> None:
    model, runs = tiny_sam(), list[int]()
    encoder_of(model).register_forward_pre_hook(lambda _, args: runs.append(len(args[0])))
    result = measure(model, images=2, boxes=3, repeats=1)
    # a round to warm up, one that counts, one that is compared: two images, and six boxes
    assert sum(runs) == 3 * (2 + 6)
    assert result["once_ms"] > 0
    assert result["largest_difference"] < 1e-5


def test_the_command_prints_json(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encoding, "build_sam", lambda _kind, _device: tiny_sam())
    result = CliRunner().invoke(command, ["--repeats", "1"])
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["boxes_an_image"] == 5
