"""What follows a training is told of every step as it is recorded, and changes nothing."""

import struct
from collections.abc import Mapping
from pathlib import Path

import pandas as pd
import pytest
import torch
from click.testing import CliRunner
from tiny import tiny_sam
from tiny_samples import TinySamples
from torch import nn

import medcore_prune as mp
from medcore_prune._support.errors import MedcorePruneError
from medcore_prune.commands.cli import cli
from medcore_prune.data.splits.split import Split, split
from medcore_prune.training import follow
from medcore_prune.training.loop import learning_rate_at
from medcore_prune.training.rate import rated

SETTINGS = mp.RecoverySettings(steps=4, batch_size=2, validate_every=2)


def pair() -> tuple[nn.Module, nn.Module]:
    teacher = tiny_sam()
    return mp.prune(teacher, mp.plan(teacher, "h50_m50", "magnitude", protect=1)), teacher


def images() -> Split:
    return split({"a": TinySamples("a", 8)}, fractions=(0.5, 0.25, 0.25))


def scalars(folder: Path) -> dict[str, dict[int, float]]:
    """What TensorBoard itself reads there."""
    module = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    read = module.EventAccumulator(str(folder), purge_orphaned_data=True)
    read.Reload()
    return {name: {each.step: each.value for each in read.Scalars(name)} for name in read.Tags()["scalars"]}


def single(value: float) -> float:
    """A number as float32, which TensorBoard's files hold."""
    return float(struct.unpack("f", struct.pack("f", value))[0])


def test_every_step_is_told_as_it_is_recorded() -> None:
    heard: list[tuple[int, dict[str, float]]] = []
    model, teacher = pair()
    history = mp.recover(
        model, teacher, images(), SETTINGS, progress=False, on_step=lambda step, of: heard.append((step, dict(of)))
    )
    assert [step for step, _ in heard] == [0, 1, 2, 3, 4]
    assert not [name for name in heard[0][1] if name.startswith("train/")]
    training = rated(SETTINGS, model).training()
    for step, values in heard[1:]:
        row = history.frame.iloc[step - 1]
        assert values["train/loss"] == row["loss"]
        assert values["train/feature"] == row["feature"]
        assert values["train/learning_rate"] == learning_rate_at(step - 1, training)
    looks = {step: values["validation/bf1"] for step, values in heard if "validation/bf1" in values}
    assert looks == dict(zip(history.validations["step"], history.validations["bf1"], strict=True))
    silent, _ = pair()
    mp.recover(silent, teacher, images(), SETTINGS, progress=False)
    assert all(torch.equal(value, silent.state_dict()[name]) for name, value in model.state_dict().items())


def test_adaptation_is_told_too(tmp_path: Path) -> None:
    heard: list[Mapping[str, float]] = []
    settings = mp.AdaptSettings(steps=2, batch_size=2)
    parts = images()
    record = mp.adapt(
        tiny_sam(), parts.train, parts.validation, settings, tmp_path / "s.pt", on_step=lambda _, of: heard.append(of)
    )
    assert [of["train/loss"] for of in heard if "train/loss" in of] == record.losses
    assert heard[0]["validation/loss"] == record.validations[0]["loss"]


def test_what_is_raised_ends_the_training_and_it_goes_on_afterwards(tmp_path: Path) -> None:
    class StopError(Exception):
        pass

    def stop(step: int, _values: Mapping[str, float]) -> None:
        if step == 3:
            raise StopError

    model, teacher = pair()
    state, log = tmp_path / "s.pt", tmp_path / "runs"
    first = mp.TensorBoardLog(log)

    def both(step: int, values: Mapping[str, float]) -> None:
        first(step, values)
        stop(step, values)

    with pytest.raises(StopError):
        mp.recover(model, teacher, images(), SETTINGS, state_path=state, progress=False, on_step=both)
    first.close()
    again, _ = pair()
    history = mp.recover(
        again, teacher, images(), SETTINGS, state_path=state, progress=False, on_step=mp.TensorBoardLog(log)
    )
    # the third step was told twice and is there once
    read = scalars(log)
    assert list(read["train/loss"]) == [1, 2, 3, 4]
    assert read["train/loss"] == {n + 1: single(loss) for n, loss in enumerate(history.frame["loss"])}
    assert list(read["validation/bf1"]) == [0, 2, 4]


def test_numbers_that_are_not_finite_are_left_out(tmp_path: Path) -> None:
    log = mp.TensorBoardLog(tmp_path)
    log(1, {"a": float("nan"), "b": 1.0})
    log.close()
    assert scalars(tmp_path) == {"b": {1: 1.0}}


def test_the_extra_is_named_where_it_is_missing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(follow, "find_spec", lambda name: None)
    with pytest.raises(MedcorePruneError, match=r'needs tensorboard: pip install "medcore-prune\[tensorboard\]"'):
        mp.TensorBoardLog(tmp_path)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    small, whole = pair()
    mp.save(small, "small.safetensors")
    mp.save(whole, "whole.safetensors")
    assert CliRunner().invoke(cli, ["phantoms", "--count", "20", "--size", "48", "--out", "set"]).exit_code == 0
    return tmp_path


def test_the_commands_write_for_tensorboard_beside_their_csv(here: Path) -> None:
    recovering = "recover small.safetensors --teacher whole.safetensors --data own=set --steps 2 --out r.safetensors"
    result = CliRunner().invoke(cli, f"{recovering} --tensorboard runs".split())
    assert result.exit_code == 0, (result.output, result.exception)
    losses = pd.read_csv("r.loss.csv")
    assert scalars(Path("runs"))["train/loss"] == {n + 1: single(each) for n, each in enumerate(losses["loss"])}
    adapting = "adapt whole.safetensors --data own=set --steps 2 --batch-size 2 --tensorboard runs2 --out a.pth"
    result = CliRunner().invoke(cli, adapting.split())
    assert result.exit_code == 0, (result.output, result.exception)
    assert list(scalars(Path("runs2"))["train/loss"]) == [1, 2]
