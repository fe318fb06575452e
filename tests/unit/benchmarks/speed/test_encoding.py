import json

import pytest
from click.testing import CliRunner
from lite import tiny_lite
from tiny import tiny_sam
from torch import Tensor, nn

from medcore_prune.benchmarks.speed import encoding
from medcore_prune.benchmarks.speed.encoding import command, measure
from medcore_prune.models.families import encoder_of
from medcore_prune.models.tiny_vit import stems


def test_both_ways_say_the_same_and_one_encodes_less() -> None:
    model, runs = tiny_sam(), list[int]()
    encoder_of(model).register_forward_pre_hook(lambda _, args: runs.append(len(args[0])))
    result = measure(model, images=2, boxes=3, repeats=1)
    # a round to warm up, one that counts, one that is compared: two images, and six boxes; of the first two, two images
    # to see whether a stem is kept
    assert sum(runs) == 3 * (2 + 6) + 2 * 2
    assert "stem_kept_ms" not in result
    assert result["once_ms"] > 0
    assert result["largest_difference"] < 1e-5


def test_a_stem_that_another_model_left_is_not_run(monkeypatch: pytest.MonkeyPatch) -> None:
    whole, runs = stems._stem, list[int]()

    def counted(model: nn.Module, images: Tensor) -> Tensor:
        runs.append(len(images))
        return whole(model, images)

    monkeypatch.setattr(stems, "_stem", counted)
    result = measure(tiny_lite(), images=2, boxes=3, repeats=1)
    # apart from the encoder they run where they are to be kept alone: once an image in both rounds, not a second time
    assert sum(runs) == 2 * 2
    assert result["once_over_stem_kept"] > 0


def test_the_command_prints_json(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encoding, "build_model", lambda _kind, _device: tiny_sam())
    result = CliRunner().invoke(command, ["--repeats", "1"])
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["boxes_an_image"] == 5
