"""Options of `medcore-bench`: old names say what to give, rare settings are typed and reach what they set."""

from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner

from medcore_prune.benchmarks.cli import cli
from medcore_prune.benchmarks.commands.words import RARE, RECOVERY, Setting, Words
from medcore_prune.benchmarks.runner.experiment import experiments
from medcore_prune.benchmarks.runner.settings import Settings
from medcore_prune.commands.values import Whole
from medcore_prune.training.settings import RecoverySettings

GONE = [
    *(("baselines", f"--{key.replace('_', '-')}") for key in RARE if key != "tolerance_px"),
    *(
        ("baselines", option)
        for option in ("--tolerance", "--model", "--image-size", "--boxes", "--layout", "--batch-size")
    ),
    *(("automatic", option) for option in ("--samples", "--chunk")),
    ("main", "--schedule"),
    *(("plan", option) for option in ("--tau", "--protect", "--mlp-group-size", "--strict", "--image-size")),
    *((study, "--images") for study in ("tune", "correction-study", "recovery-study")),
    *(("recovery-study", f"--{name}") for name in ("training", "validation", "steps", "batch")),
]


@pytest.mark.parametrize(("command", "option"), GONE)
def test_an_option_that_is_gone_says_what_to_give(command: str, option: str) -> None:
    result = CliRunner().invoke(cli, [command, option, "1"])
    assert result.exit_code == 2
    line = result.output.splitlines()[-1]
    assert line.startswith(f"Error: {option} is gone: ")
    assert "--set" in line or "leave" in line or "--data" in line


class RanError(Exception):
    """What an experiment was called with."""


def called(monkeypatch: pytest.MonkeyPatch, words: Words, *arguments: str) -> tuple[Settings, dict[str, Any]]:
    def ran(settings: Settings, **own: Any) -> None:
        raise RanError(settings, own)

    monkeypatch.setattr(experiments, "get", lambda name: ran)
    with pytest.raises(RanError) as caught:
        words.command().main([*arguments], standalone_mode=False)
    return caught.value.args


def test_rare_settings_reach_what_they_set(monkeypatch: pytest.MonkeyPatch) -> None:
    words = Words(
        "mine", "Mine.", rare={"chunk": Setting(click.FLOAT, "a share (0.1)"), "n": Setting(Whole(1), "n (1)")}
    )
    settings, own = called(
        monkeypatch,
        words,
        "--quick",
        "--set",
        "images=7",
        "--set",
        "eval_size=32",
        "--set",
        "role=validation",
        "--set",
        "chunk=0.5",
        "--set",
        "seeds=2",
        "--data",
        "a=x:plain",
    )
    assert (settings.counts.phantom_images, settings.counts.real_images) == (7, 7)
    assert (settings.counts.calibration, settings.eval_size, settings.role, settings.seeds) == (4, 32, "validation", 2)
    assert settings.data == ("a=x:plain",)
    # what is not given is left to the experiment
    assert own == {"chunk": 0.5}


@pytest.mark.parametrize(
    ("words", "names"),
    [((), ()), (("--methods", "lamp"), ("lamp",)), (("--methods", "b, a,b,"), ("b", "a"))],
)
def test_methods_are_read_into_names(
    monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...], names: tuple[str, ...]
) -> None:
    settings, _ = called(monkeypatch, import_module("medcore_prune.benchmarks.commands.baselines").WORDS, *words)
    assert settings.methods == names


def test_a_list_of_no_method_is_refused() -> None:
    result = CliRunner().invoke(cli, ["baselines", "--methods", " ,"])
    assert result.exit_code == 2
    assert "' ,' names none" in result.output


@pytest.mark.parametrize(
    ("name", "subject"),
    [*((name, "lamp") for name in ("main", "transfer", "leverage", "landscape")), ("automatic", "automatic")],
)
def test_one_method_alone_takes_part(monkeypatch: pytest.MonkeyPatch, name: str, subject: str) -> None:
    words: Words = import_module(f"medcore_prune.benchmarks.commands.{name}").WORDS
    settings, own = called(monkeypatch, words, "--method", "lamp")
    assert (settings.methods, settings.subject, own["method"]) == (("lamp",), subject, "lamp")


@pytest.mark.parametrize("name", ["baselines", "main", "transfer", "ablation", "leverage", "landscape", "automatic"])
def test_an_experiment_takes_what_its_command_gives(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    words: Words = import_module(f"medcore_prune.benchmarks.commands.{name}").WORDS
    made = experiments.get(name)
    settings, own = called(monkeypatch, words)
    assert made(settings, **own).settings.out == Path("medcore-results", name)
    named = {"schedule": "one-shot", "starts": "corrected", "recovery_precision": "bf16"}
    rare = [word for key in words.rare for word in ("--set", f"{key}={named.get(key, 1)}")]
    alone = ["--no-sequential"] if name == "main" else []
    settings, own = called(monkeypatch, words, *rare, *alone)
    # what experiments share is the settings', the rest the experiment's
    shared = {*RECOVERY, "generations"}
    assert own.keys() >= words.rare.keys() - shared
    assert "generations" not in words.rare or settings.generations == 1
    if words.rare.keys() >= RECOVERY.keys():
        assert (settings.validation, settings.recovery_batch, settings.recovery_rate) == (1, 1, 1.0)
        assert settings.recovery_average is True
    made(settings, **own)


@pytest.mark.parametrize("name", ["baselines", "main", "transfer", "ablation", "automatic"])
def test_jobs_run_on_a_cluster_where_that_is_asked_for(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    words: Words = import_module(f"medcore_prune.benchmarks.commands.{name}").WORDS
    assert called(monkeypatch, words)[0].ray is None
    settings, own = called(monkeypatch, words, "--ray", "auto")
    assert (settings.ray, "ray" in own) == ("auto", False)


@pytest.mark.parametrize("name", ["main", "transfer", "ablation"])
def test_a_recovery_is_as_it_is_set(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    words: Words = import_module(f"medcore_prune.benchmarks.commands.{name}").WORDS
    made = experiments.get(name)
    settings, own = called(monkeypatch, words, "--steps", "24")
    usual = made(settings, **own).recovery()
    assert usual == RecoverySettings(steps=24, validate_every=2)
    given = ("--set", "recovery_batch=4", "--set", "recovery_rate=3e-4", "--set", "recovery_average=true")
    given += ("--set", "recovery_precision=bf16")
    settings, own = called(monkeypatch, words, "--steps", "24", *given)
    asked = {"batch_size": 4, "learning_rate": 3e-4, "average": True, "precision": "bf16"}
    # no look of an average chooses anything, so there are fewer
    assert made(settings, **own).recovery() == replace(usual, validate_every=6, **asked)


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("image=3", "there is no setting 'image': did you mean images?"),
        ("images=0", "images: 0 is not in the range x>=1."),
        ("images", "expected images=VALUE"),
        ("tolerance_px=inf", "expected a finite number, got inf"),
        ("role=train", "role: 'train' is not one of 'test', 'validation'."),
    ],
)
def test_what_cannot_be_set_is_said(word: str, said: str) -> None:
    result = CliRunner().invoke(cli, ["baselines", "--set", word])
    assert result.exit_code == 2
    assert said in result.output.replace("\n", " ")
