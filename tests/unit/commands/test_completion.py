"""What the shell completes, without importing torch once a command is remembered."""

import os
from pathlib import Path

import pytest
from click.shell_completion import ShellComplete
from torch_free import output_without_torch

from medcore_prune.benchmarks.cli import cli as bench
from medcore_prune.commands import group
from medcore_prune.commands.cli import cli as prune
from medcore_prune.commands.group import LazyGroup

GROUPS: dict[str, LazyGroup] = {"medcore-prune": prune, "medcore-bench": bench}  # type: ignore[dict-item]


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MEDCORE_PRUNE_CACHE", str(tmp_path))
    return tmp_path


def completed(line: str) -> list[str]:
    """What comes after a line whose last word is not finished; files and folders as `<file>` and `<dir>`."""
    program, *words, last = line.split(" ")
    shell = ShellComplete(GROUPS[program], {}, program, "_COMPLETE")
    return [item.value if item.type == "plain" else f"<{item.type}>" for item in shell.get_completions(words, last)]


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("medcore-prune pr", ["prune", "predict"]),
        ("medcore-bench cor", ["correction-study"]),
        ("medcore-prune prune --pl", ["--plugin", "--plan-out"]),
        ("medcore-prune prune --method medc", ["medcore", "medcore_untuned"]),
        ("medcore-prune prune --level h70", ["h70_m70", "h70_m95"]),
        ("medcore-prune prune --model vit", ["vit_b", "vit_l", "vit_h"]),
        ("medcore-prune prune --adapted p", ["pocket", "<file>"]),
        ("medcore-prune evaluate small.safetensors p", ["pocket", "<file>"]),
        ("medcore-prune export --out ", ["<dir>"]),
        ("medcore-prune recover --device c", ["cpu", "cuda"]),
        ("medcore-prune recover --fr", ["--fresh"]),
        ("medcore-bench baselines --levels h50_m70,h70", ["h50_m70,h70_m70", "h50_m70,h70_m95"]),
        ("medcore-bench baselines --methods random,mag", ["random,magnitude"]),
        ("medcore-bench report ", ["<dir>"]),
    ],
)
def test_what_comes_next(line: str, expected: list[str]) -> None:
    assert completed(line) == expected
    assert completed(line) == expected  # as remembered


def test_every_command_can_be_remembered() -> None:
    for program, commands in GROUPS.items():
        for name in commands.listed:
            assert "--help" in completed(f"{program} {name} --")


def test_a_remembered_command_completes_without_torch() -> None:
    completed("medcore-prune phantoms --s")
    words = {"COMP_WORDS": "medcore-prune phantoms --s", "COMP_CWORD": "2"}
    environment = {**os.environ, **words, "_MEDCORE_PRUNE_COMPLETE": "zsh_complete"}
    printed = output_without_torch("medcore_prune.commands.cli", "medcore-prune", environment=environment)
    assert {"--set", "--size", "--seed"} <= set(printed.split("\n"))


def test_an_outline_is_good_for_one_state_of_the_program(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    completed("medcore-prune phantoms --s")
    (old,) = (cache / "completion").iterdir()
    monkeypatch.setattr(group, "__version__", "another")
    completed("medcore-prune phantoms --s")
    (new,) = (cache / "completion").iterdir()
    assert new != old


@pytest.mark.parametrize("content", ["", "not json"])
def test_a_damaged_outline_is_made_anew(cache: Path, content: str) -> None:
    found = completed("medcore-prune phantoms --s")
    (place,) = (cache / "completion").iterdir()
    place.write_text(content)
    assert completed("medcore-prune phantoms --s") == found


def test_a_cache_that_cannot_be_written_does_no_harm(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (cache / "file").write_text("")
    monkeypatch.setenv("MEDCORE_PRUNE_CACHE", str(cache / "file"))
    assert "--set" in completed("medcore-prune phantoms --s")
