import configparser
import re
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from medcore_prune._support.version import __version__
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
def test_every_command_has_help_and_stands_in_the_page_of_the_tool(name: str, command: click.Command) -> None:
    assert (command.help or "").strip()
    assert f"| `{name}` |" in (ROOT / "docs" / "tool.md").read_text()


def test_the_readme_is_short_and_cites_this_version() -> None:
    text = (ROOT / "README.md").read_text()
    assert len(text.splitlines()) <= 190
    assert f"version = {{{__version__}}}" in text


# a heading or another place of a page that a link leads to
LINK = re.compile(r"\]\(([\w./-]*)(?:#([\w-]+))?\)")


def anchors(page: Path) -> set[str]:
    titles = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}


def test_links_of_the_readme_lead_somewhere() -> None:
    found = LINK.findall((ROOT / "README.md").read_text(encoding="utf-8"))
    assert len(found) > 20
    for place, anchor in found:
        page = ROOT / (place or "README.md")
        assert page.exists(), place
        assert not anchor or anchor in anchors(page), f"{place}#{anchor}"
