"""The site's reference is whole: every public name, command and option once, and no page loads from a network."""

import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

import medcore_prune as mp
from medcore_prune.benchmarks.cli import cli as bench
from medcore_prune.commands.cli import cli as prune

ROOT = Path(__file__).resolve().parents[2]
REFERENCE = ROOT / "docs" / "reference"
SITE = ROOT / "build" / "docs"
PROGRAMS = {"medcore-prune": prune, "medcore-bench": bench}

# what makes a browser fetch: sources, style sheets and scripts, not links to click on
FETCHES = re.compile(
    r"""<(?:script|img|iframe|source|video|audio|embed|link)\b[^>]*?(?:src|srcset|href)=["'](?:https?:)?//"""
)
IMPORTS = re.compile(r"""@import\s+["']?(?:url\()?["']?(?:https?:)?//|url\(["']?(?:https?:)?//""")


def options() -> Iterator[tuple[str, str, click.Option]]:
    for program, group in PROGRAMS.items():
        context = click.Context(group)
        for name in group.list_commands(context):
            command = group.get_command(context, name)
            assert command is not None
            yield from ((program, name, each) for each in command.params if isinstance(each, click.Option))


def documented() -> list[str]:
    found = []
    for page in REFERENCE.glob("*.md"):
        module = ""
        for line in page.read_text(encoding="utf-8").splitlines():
            if line.startswith(".. currentmodule:: "):
                module = line.split()[-1]
            elif line.startswith((".. autofunction:: ", ".. autoclass:: ", ".. autodata:: ")):
                name = line.split()[-1]
                found.append(name if name.startswith("medcore_prune.") else f"{module}.{name}")
    return found


def test_every_public_name_is_documented_once() -> None:
    names = Counter(documented())
    assert [name for name, count in names.items() if count > 1] == []
    modules = {"__version__", "data", "zoo", "LAYOUTS", "Box", "phantoms"}
    wanted = {f"medcore_prune.{name}" for name in mp.__all__ if name not in modules}
    wanted |= {f"medcore_prune.data.{name}" for name in mp.data.__all__ if name not in modules}
    assert wanted - set(names) == set()


@pytest.mark.parametrize("program", list(PROGRAMS))
def test_commands_are_documented_from_their_help(program: str) -> None:
    text = (REFERENCE / f"{program}.md").read_text(encoding="utf-8")
    assert f":prog: {program}\n   :nested: full" in text


def test_every_option_has_help() -> None:
    without = [f"{program} {name} {each.opts[0]}" for program, name, each in options() if not (each.help or "").strip()]
    assert without == []


def pages() -> list[Path]:
    found = sorted(SITE.rglob("*.html"))
    if not found:
        pytest.skip("the site is not built: run `make docs`")
    return found


def test_every_option_stands_in_the_built_site() -> None:
    pages()
    text = {name: (SITE / "reference" / f"{name}.html").read_text(encoding="utf-8") for name in PROGRAMS}
    missing = [
        f"{program} {name} {flag}"
        for program, name, each in options()
        for flag in (*each.opts, *each.secondary_opts)
        if f'id="cmdoption-{program}-{name}-{flag.lstrip("-")}"' not in text[program]
    ]
    assert missing == []


def test_the_built_site_loads_nothing_from_a_network() -> None:
    for page in pages():
        assert not FETCHES.search(page.read_text(encoding="utf-8")), page
    for sheet in SITE.rglob("*.css"):
        assert not IMPORTS.search(sheet.read_text(encoding="utf-8")), sheet
