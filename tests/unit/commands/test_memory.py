"""What is chosen by the memory that is there."""

from collections.abc import Callable

import click
import pytest
from click.testing import CliRunner
from tiny import tiny_sam
from torch import nn

from medcore_prune._support.errors import MedcorePruneError
from medcore_prune.commands.options import verbose_option
from medcore_prune.commands.work import memory
from medcore_prune.evaluation.estimates import Estimate
from medcore_prune.models.switches import attention_of, is_checkpointing


def estimate_of(model: nn.Module, fixed: int = 10) -> Callable[[int], Estimate]:
    """100 bytes an image as models are, 50 with fused attention, 20 where blocks are recomputed besides."""

    def estimate(batch_size: int) -> Estimate:
        each = 100 if attention_of(model) == "segment-anything" else 20 if is_checkpointing(model) else 50
        return Estimate("work", 8, batch_size, {"x": fixed}, {"y": each}, 0, None, "cpu", ("another device",))

    return estimate


@pytest.mark.parametrize(
    ("left", "trained", "chosen"),
    [
        (None, True, (8, "segment-anything", False)),
        (810, True, (8, "segment-anything", False)),
        (809, True, (8, "sdpa", False)),
        (409, True, (7, "sdpa", False)),
        (60, True, (1, "sdpa", False)),
        (59, True, (2, "sdpa", True)),
    ],
)
def test_what_is_given_up_first(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    left: int | None,
    trained: bool,
    chosen: tuple[int, str, bool],
) -> None:
    monkeypatch.setattr(memory, "available_bytes", lambda _device: left)
    monkeypatch.setattr(memory, "require_memory", lambda _estimate: None)
    model = tiny_sam()
    batch = memory.fit(estimate_of(model), 8, [model], trained)
    assert (batch, attention_of(model), is_checkpointing(model)) == chosen
    said = capsys.readouterr().err
    assert "passes" not in said
    assert ("note: memory is short" in said) == (attention_of(model) == "sdpa")


@pytest.mark.parametrize(
    ("words", "seconds", "said"),
    [
        ([], None, ""),
        ([], 4.9, ""),
        ([], 130.0, "work: about 2 min 10 s\n"),
        (["--verbose"], None, "work: 8 passes, 8 at a time, 90 bytes of memory (y 80 bytes, x 10 bytes)\n"),
    ],
)
def test_what_is_said_beforehand(
    monkeypatch: pytest.MonkeyPatch, words: list[str], seconds: float | None, said: str
) -> None:
    monkeypatch.setattr(memory, "available_bytes", lambda _device: None)

    @click.command()
    @verbose_option
    def command() -> None:
        memory.fit(lambda count: Estimate("work", 8, count, {"x": 10}, {"y": 10}, 0, seconds, "cpu", ()), 8, [])

    assert CliRunner().invoke(command, words).output == said


def test_what_does_not_fit_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "available_bytes", lambda _device: 59)
    monkeypatch.setattr("medcore_prune.evaluation.estimates.available_bytes", lambda _device: 59)
    model = tiny_sam()
    with pytest.raises(MedcorePruneError, match="work needs about 60 bytes of memory and cpu has 59 bytes left"):
        memory.fit(estimate_of(model), 8, [model])
    assert not is_checkpointing(model)


@pytest.mark.parametrize(("left", "batch"), [(None, 16), (1610, 16), (1609, 15), (5, 1)])
def test_forward_passes_take_fewer_images_where_memory_is_short(
    monkeypatch: pytest.MonkeyPatch, left: int | None, batch: int
) -> None:
    model = tiny_sam()
    monkeypatch.setattr(memory, "available_bytes", lambda _device: left)
    monkeypatch.setattr(
        memory, "evaluation_estimate", lambda _model, _images, *, batch_size, trial: estimate_of(model)(16)
    )
    assert memory.images_at_a_time(model, 16) == batch
