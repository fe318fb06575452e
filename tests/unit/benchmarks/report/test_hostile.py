"""Results that somebody made up: one line, never an exception, and nothing of theirs runs in the page."""

import json
from pathlib import Path
from typing import Any

import pytest
from bench_store import build
from click.testing import CliRunner, Result

from medcore_prune._support.errors import ResultsError
from medcore_prune.benchmarks.cli import cli
from medcore_prune.benchmarks.runner.store import Cell, CellResult, ResultStore, write_record

PATHS = ["../../x", "a/b", "/etc/passwd", "..", "a\\b"]
NAMES = [*PATHS, "a\nb", "<script>alert(1)</script>", "x" * 100_000, "", "\x1b[31m"]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    root = tmp_path_factory.mktemp("built")
    build(root)
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


@pytest.fixture
def root(built: dict[str, bytes], tmp_path: Path) -> Path:
    for name, content in built.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(content)
    return tmp_path


def change(path: Path, *place: str, value: Any) -> None:
    """Write another value at a place of a record, with a hash that fits."""
    record = json.loads(path.read_text())
    for key in ("content_sha256", "format"):
        record.pop(key)
    inner = record
    for key in place[:-1]:
        inner = inner[key]
    inner[place[-1]] = value
    write_record(path, record)


def report(root: Path) -> Result:
    return CliRunner().invoke(cli, ["report", str(root), "--no-gallery"])


def refused(root: Path) -> None:
    result = report(root)
    assert isinstance(result.exception, ResultsError), (result.output, result.exception)
    assert "\n" not in str(result.exception)
    assert len(str(result.exception)) < 1000


@pytest.mark.parametrize("name", NAMES)
def test_hostile_results_are_refused_in_one_line(root: Path, name: str) -> None:
    cell = next((root / "cells" / "own" / "medcore").glob("*.json"))
    before = cell.read_bytes()
    for entry in ("mode", "method", "level", "dataset"):
        change(cell, "cell", entry, value=name)
        refused(root)
        cell.write_bytes(before)
    run = (root / "run.json").read_bytes()
    for place, value in {
        ("methods",): {name: {}},
        ("modes",): [[name, "title"], ["own", "own"], ["same", "same"]],
        ("subject",): name,
    }.items():
        change(root / "run.json", *place, value=value)
        refused(root)
        (root / "run.json").write_bytes(run)
    assert report(root).exit_code == 0
    with pytest.raises(ResultsError, match="of such a name"):
        ResultStore.open(root).write(CellResult(Cell("baselines", "own", name, "none", "set_a", 0), "k", {}, {}, 1))


@pytest.mark.parametrize(
    ("place", "value"),
    [
        (("draws",), "many"),
        (("draws",), 10**12),
        (("modes",), 7),
        (("modes",), [["other", "another"]]),
        (("data",), [1]),
        (("data",), {"set_a": {"images": "<b>"}}),
        (("identity",), {"model": "pocket"}),
        (("identity",), {"experiment": "x" * 10_000}),
        (("methods",), {"medcore": 3}),
        (("methods",), {"medcore": {"settings": 3}}),
    ],
)
def test_what_no_run_wrote_is_refused_in_one_line(root: Path, place: tuple[str, ...], value: Any) -> None:
    change(root / "run.json", *place, value=value)
    refused(root)


def test_texts_are_escaped(root: Path) -> None:
    evil = "<script>alert('x')</script> $\\frac{ | \n# no heading"
    about = {"description": evil, "source": evil, "settings": {"a": evil}, "quotas": evil, "cost": "free"}
    for place, value in {("methods", "medcore"): about, ("notice",): evil, ("adapted",): evil}.items():
        change(root / "run.json", *place, value=value)
    result = report(root)
    assert result.exit_code == 0, (result.output, result.exception)
    page = (root / "report.html").read_text()
    assert page.count("<script") == 1  # the page's own
    assert "<script>alert" not in page
    methods = (root / "report.md").read_text().rpartition("### Methods")[2]
    assert "<script" not in methods
    assert "\n# no heading" not in methods
