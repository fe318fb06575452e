import ast
import configparser
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from medcore_prune.benchmarks.cli import cli as bench
from medcore_prune.commands.cli import cli as prune

ROOT = Path(__file__).resolve().parents[2]
# from the lowest to the highest: a folder may import from itself and from those before it
ORDER = ("medcore_prune", "criteria", "baselines", "benchmarks")


def packages() -> set[str]:
    found = set()
    for top in ORDER:
        for folder in {path.parent for path in (ROOT / top).rglob("*.py")}:
            dotted = ".".join(folder.relative_to(ROOT).parts)
            found.add(dotted if top == "medcore_prune" else f"medcore_prune.{dotted}")
    return found


def test_every_package_is_listed() -> None:
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg")
    assert set(config["options"]["packages"].split()) == packages()


def imported(path: Path) -> Iterator[str]:
    """Top folders that a module imports from; relative imports are resolved to them."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    here = parts if parts[0] == "medcore_prune" else ("medcore_prune", *parts)
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom):
            base = here[: len(here) - node.level] if node.level else ()
            base = base or (() if node.level == 0 else here[:1])
            names = [*base, *(node.module or "").split(".")] if node.module else [*base]
            for alias in node.names:
                yield from _folder([*names, alias.name])
        elif isinstance(node, ast.Import):
            for alias in node.names:
                yield from _folder(alias.name.split("."))


def _folder(names: list[str]) -> Iterator[str]:
    if names and names[0] == "medcore_prune":
        second = names[1] if len(names) > 1 else ""
        yield second if second in ORDER[1:] else "medcore_prune"


@pytest.mark.parametrize("top", ORDER)
def test_arrows_go_one_way(top: str) -> None:
    allowed = set(ORDER[: ORDER.index(top) + 1])
    wrong = {
        f"{path.relative_to(ROOT)} -> {folder}"
        for path in (ROOT / top).rglob("*.py")
        for folder in imported(path)
        if folder not in allowed
    }
    assert not wrong


def test_the_reader_of_imports_sees_them() -> None:
    assert "criteria" in set(imported(ROOT / "baselines" / "medcore.py"))


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
