"""The tour in docs/tool.md runs as printed, and the example of every command is a part of it."""

import re
import shlex
from importlib.util import find_spec
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

import medcore_prune as mp
from medcore_prune.commands.cli import COMMANDS, cli

TOOL = Path(__file__).resolve().parents[2] / "docs" / "tool.md"


def tour() -> list[str]:
    blocks = re.findall(r"```bash\n(.*?)```", TOOL.read_text(encoding="utf-8"), re.DOTALL)
    return [line for block in blocks for line in block.splitlines() if line]


def examples(command: click.Command) -> list[str]:
    joined = re.sub(r"\\\n\s+", "", command.help or "")
    found = re.search(r"Example:\n((?: +medcore-prune .*\n?)+)", joined)
    return [] if found is None else [line.strip() for line in found[1].splitlines()]


@pytest.mark.parametrize("name", list(COMMANDS))
def test_every_example_is_part_of_the_tour(name: str) -> None:
    command = cli.get_command(click.Context(cli), name)
    assert command is not None
    lines = examples(command)
    assert any(line.startswith(f"medcore-prune {name}") for line in lines)
    assert set(lines) <= set(tour())
    assert f"| `medcore-prune {name}` |" in TOOL.read_text(encoding="utf-8")


def test_the_tour_runs_as_printed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MEDCORE_PRUNE_CACHE", str(tmp_path / "cache"))
    for line in tour():
        program, *words = shlex.split(line)
        assert program == "medcore-prune"
        if words[0] == "export" and find_spec("onnxruntime") is None:
            continue
        result = CliRunner().invoke(cli, words)
        assert result.exit_code == 0, f"{line}\n{result.output}\n{result.exception!r}"
    small, recovered, own = (mp.load(f"{name}.safetensors") for name in ("small", "recovered", "own"))
    assert mp.count(small).params == mp.count(recovered).params < 0.5 * mp.count(mp.zoo.pocket("adapted")).params
    assert mp.count(own).params < mp.count(mp.zoo.pocket("adapted")).params
    masks = {path.name for path in (tmp_path / "all-masks").glob("[!.]*")}
    assert len(masks) == 25
    assert {path.name for path in (tmp_path / "masks").glob("[!.]*")} == {
        *("areas.csv", "s0_000000_mask.png", "s0_000000_overlay.png"),
    }
    for name in ("blocks.png", "small.report.md", "recovered.loss.csv", "recovered.loss.png", "own.split.json"):
        assert (tmp_path / name).stat().st_size > 0
    assert not list(tmp_path.glob("*.state.pt"))
