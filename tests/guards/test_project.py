import configparser
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from medcore_prune.benchmarks.cli import cli as bench
from medcore_prune.commands.cli import cli as prune

ROOT = Path(__file__).resolve().parents[2]
TOP = ("medcore_prune", "criteria", "baselines", "benchmarks")


def packages() -> set[str]:
    found = set()
    for top in TOP:
        for folder in {path.parent for path in (ROOT / top).rglob("*.py")}:
            dotted = ".".join(folder.relative_to(ROOT).parts)
            found.add(dotted if top == "medcore_prune" else f"medcore_prune.{dotted}")
    return found


def test_every_package_is_listed() -> None:
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg")
    assert set(config["options"]["packages"].split()) == packages()


def commands() -> Iterator[tuple[str, click.Command]]:
    for name, group in (("medcore-bench", bench), ("medcore-prune", prune)):
        context = click.Context(group)
        for command in group.list_commands(context):
            found = group.get_command(context, command)
            assert found is not None
            yield f"{name} {command}", found


@pytest.mark.parametrize(("name", "command"), list(commands()), ids=lambda value: str(value))
def test_every_command_has_help_and_stands_in_the_readme(name: str, command: click.Command) -> None:
    assert (command.help or "").strip()
    assert f"`{name}`" in (ROOT / "README.md").read_text()
