"""What the shell completes, without importing torch."""

import os

import pytest
from click.shell_completion import ShellComplete
from torch_free import output_without_torch

from medcore_prune._support.registry import BUILT_IN
from medcore_prune.benchmarks.cli import cli as bench
from medcore_prune.commands.cli import cli as prune
from medcore_prune.commands.group import LazyGroup
from medcore_prune.commands.values import MethodName
from medcore_prune.scoring.recipes import available_baselines, baseline_info
from medcore_prune.scoring.registry import available_criteria, criteria

GROUPS: dict[str, LazyGroup] = {"medcore-prune": prune, "medcore-bench": bench}  # type: ignore[dict-item]


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
        ("medcore-prune prune p", ["pocket", "<file>"]),
        ("medcore-prune prune --reference p", ["pocket", "<file>"]),
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


def test_every_command_completes() -> None:
    for program, commands in GROUPS.items():
        for name in commands.listed:
            assert "--help" in completed(f"{program} {name} --")


def test_the_names_of_methods_are_those_that_are_registered() -> None:
    own = {name for name in available_baselines(include_slow=True) if baseline_info(name).origin == BUILT_IN}
    own |= {name for name in available_criteria() if criteria.info(name).origin == BUILT_IN}
    assert set(MethodName().words) == own


@pytest.mark.parametrize("words", ["prune --m", "prune --method medc"])
def test_completion_does_not_wait_for_torch(words: str) -> None:
    line = {"COMP_WORDS": f"medcore-prune {words}", "COMP_CWORD": str(len(words.split()))}
    environment = {**os.environ, **line, "_MEDCORE_PRUNE_COMPLETE": "zsh_complete"}
    printed = output_without_torch("medcore_prune.commands.cli", "medcore-prune", environment=environment)
    assert {"--method", "medcore"} & set(printed.split("\n"))
