"""Help as a newcomer reads it: whole at 80 columns, nothing without words, every example a command that parses."""

import json
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator

import click
import pytest
from click.testing import CliRunner

from medcore_prune.benchmarks.cli import cli as bench
from medcore_prune.commands.cli import cli as prune
from medcore_prune.commands.group import LazyGroup

WIDTH = 80
PROGRAMS: dict[str, LazyGroup] = {"medcore-prune": prune, "medcore-bench": bench}  # type: ignore[dict-item]
COMMANDS = [(program, name) for program, group in PROGRAMS.items() for name in group.listed]


def found(program: str, name: str) -> click.Command:
    command = PROGRAMS[program].get_command(click.Context(PROGRAMS[program]), name)
    assert command is not None
    return command


def parsed(program: str, name: str, words: list[str], resilient: bool = False) -> click.Context:
    group = PROGRAMS[program]
    # a command takes the names of its help option from the program
    parent = group.make_context(program, [name])
    return found(program, name).make_context(name, words, parent, resilient_parsing=resilient)


def help_of(program: str, *words: str) -> str:
    result = CliRunner().invoke(PROGRAMS[program], [*words, "--help"], prog_name=program, terminal_width=WIDTH)
    assert result.exit_code == 0
    return result.output


def examples(text: str) -> Iterator[list[str]]:
    """Words of every command that help shows, its continued lines joined."""
    for line in re.sub(r"\\\n\s+", "", text).splitlines():
        if line.startswith("    medcore-"):
            yield shlex.split(line)


@pytest.mark.parametrize(
    ("program", "words"), [*((program, []) for program in PROGRAMS), *((program, [name]) for program, name in COMMANDS)]
)
def test_the_short_option_shows_the_same(program: str, words: list[str]) -> None:
    short = CliRunner().invoke(PROGRAMS[program], [*words, "-h"], prog_name=program, terminal_width=WIDTH)
    assert (short.exit_code, short.output) == (0, help_of(program, *words))


@pytest.mark.parametrize("program", PROGRAMS)
def test_the_list_of_commands_fits_and_is_whole(program: str) -> None:
    text = help_of(program)
    assert max(map(len, text.splitlines())) <= WIDTH
    assert "..." not in text.replace("[ARGS]...", "")
    for known in PROGRAMS[program].listed.values():
        assert known.says in " ".join(text.split())


@pytest.mark.parametrize(("program", "name"), COMMANDS)
def test_help_fits_and_says_everything(program: str, name: str) -> None:
    command, text = found(program, name), help_of(program, name)
    assert max(map(len, text.splitlines())) <= WIDTH
    known = PROGRAMS[program].listed[name].says
    assert (command.help or "").startswith(f"{known}.\n")
    context = parsed(program, name, [], resilient=True)
    for option in command.params:
        if isinstance(option, click.Option):
            assert (option.help or "").endswith((".", "]")), option.name
            told = option.is_flag or option.required or option.multiple or context.params[option.name] is None
            _, shown = option.get_help_record(context) or ("", "")
            assert told or "default: " in shown, option.name


@pytest.mark.parametrize(("program", "name"), COMMANDS)
def test_examples_parse(program: str, name: str) -> None:
    shown = list(examples(help_of(program, name)))
    assert any(words[:2] == [program, name] for words in shown)
    for called, command, *words in shown:
        if called == program:
            parsed(program, command, words).close()


# in one process that shows the help of one command after the other: what the first imports, the last has imported
SHOWN = """
import json, sys
from importlib import import_module
from click.testing import CliRunner
found = {}
for program, name in json.loads(sys.argv[1]):
    cli = import_module(program).cli
    assert CliRunner().invoke(cli, [name, "--help"]).exit_code == 0
    found[name] = [module for module in ("torch", "pandas", "skimage", "matplotlib") if module in sys.modules]
print(json.dumps(found))
"""


def test_no_help_waits_for_torch() -> None:
    names = [("medcore_prune.commands.cli", name) for name in prune.listed]  # type: ignore[attr-defined]
    names += [("medcore_prune.benchmarks.cli", name) for name in bench.listed]  # type: ignore[attr-defined]
    done = subprocess.run([sys.executable, "-c", SHOWN, json.dumps(names)], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == {name: [] for _, name in names}
