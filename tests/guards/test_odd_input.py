"""Odd words on the command lines: one line and an exit code, no traceback, no hang, nothing lost."""

import os
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
import torch
from tiny import tiny_sam

import medcore_prune as mp
from medcore_prune.benchmarks.cli import cli as bench
from medcore_prune.commands import group
from medcore_prune.commands.cli import cli

ANYWHERE = "0,0,20,20"


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Folder with a model, its pruned one and a few images, in which commands run."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("warnings.showwarning", group._python_shows)
    model = tiny_sam()
    mp.save(model, "whole.safetensors")
    mp.save(mp.prune(model, mp.make_plan(model, "h50_m50")), "small.safetensors")
    torch.save(model.state_dict(), "weights.pth")
    cli(["phantoms", "--count", "6", "--size", "48", "--out", "set"], standalone_mode=False)
    (tmp_path / "ends.py").write_text("import sys; sys.exit(0)")
    if hasattr(os, "mkfifo"):
        os.mkfifo("pipe.safetensors")
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    yield tmp_path
    assert {path: path.read_bytes() for path in before} == before


ODD = {
    "the plan over the model": "prune whole.safetensors --data a=set --plan-out whole.safetensors",
    "recovered over the pruned": "recover small.safetensors --teacher whole.safetensors --data a=set "
    "--out small.safetensors",
    "recovered over the teacher": "recover small.safetensors --teacher whole.safetensors --data a=set "
    "--out whole.safetensors",
    "adapted over the reference": "adapt weights.pth --data a=set --out weights.pth",
    "a plug-in that ends the program": "prune whole.safetensors --data a=set --plugin ends.py",
    "a name that torch does not write": "adapt pocket --data a=set --steps 1 --out model",
    "a pipe as a model": "inspect pipe.safetensors",
    "a device file as a model": "inspect /dev/zero",
    "a pipe as an image": f"predict small.safetensors pipe.safetensors --box {ANYWHERE}",
}


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no named pipes on Windows")
@pytest.mark.parametrize("odd", ODD)
def test_odd_words_are_refused_in_one_line(here: Path, odd: str, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        group.run(_called(*ODD[odd].split()))
    assert ended.value.code == 1
    assert [line for line in capfd.readouterr().err.splitlines() if line.startswith("error: ")]


WRONG = {
    "a method": "prune whole.safetensors --data a=set --method medcor --out x.safetensors",
    "a level": "prune whole.safetensors --level h50 --out x.safetensors",
    "a target": "prune whole.safetensors --target flops --out x.safetensors",
    "a layout": "evaluate whole.safetensors --data a=set:plian",
    "words for data": "evaluate whole.safetensors --data set",
    "one name twice": "evaluate whole.safetensors --data a=set --data a=set",
    "boxes of no set": "evaluate whole.safetensors --data a=set --data b.boxes=set/boxes.csv",
    "a device": "evaluate whole.safetensors --data a=set --device gpu",
    "shares that are no numbers": "adapt pocket --data a=set --steps 1 --fractions nan,0,1 --out x.pth",
    "shares that do not sum to one": "adapt pocket --data a=set --steps 1 --fractions 1,1,1 --out x.pth",
    "a learning rate that is no number": "adapt pocket --data a=set --steps 1 --learning-rate nan --out x.pth",
    "slices of a batch": "recover small.safetensors --teacher whole.safetensors --data a=set --accumulate 3 "
    "--out x.safetensors",
    "a command": "purne whole.safetensors",
    "methods of a comparison": "bench baselines --quick --methods medcor --out results",
    "levels of a comparison": "bench baselines --quick --levels h50 --out results",
    "an experiment": "bench baseline",
    "a subject": "bench baselines --quick --methods random --compare medcor --out results",
    "a setting": "bench baselines --set tolerance_px=nan --out results",
    "results to hold claims against": "bench claims --results x",
}


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no named pipes on Windows")
@pytest.mark.parametrize("wrong", WRONG)
def test_wrong_words_are_wrong_usage(here: Path, wrong: str, capfd: pytest.CaptureFixture[str]) -> None:
    words = WRONG[wrong].split()
    tool, words = (bench, words[1:]) if words[0] == "bench" else (cli, words)
    with pytest.raises(SystemExit) as ended:
        group.run(click.Command("x", callback=lambda: tool(words, standalone_mode=False), add_help_option=False))
    said = capfd.readouterr().err
    assert ended.value.code == 2, said
    assert sum(line.lower().startswith("error: ") for line in said.splitlines()) == 1


def _called(*words: str) -> click.Command:
    """A command that calls the tool with these words."""
    return click.Command("odd", callback=lambda: cli(list(words), standalone_mode=False), add_help_option=False)


@pytest.fixture(autouse=True)
def no_arguments(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["odd"])


@pytest.mark.parametrize("box", ["-1e300,-1e300,5,5", "0,0,1e308,1e308", "5,5,5,5"])
def test_boxes_far_outside_are_drawn(here: Path, box: str) -> None:
    words = ["predict", "small.safetensors", "set/images/s0_000000.png", "--box", box, "--out", "out"]
    cli(words, standalone_mode=False)
    assert (here / "out" / "s0_000000_overlay.png").is_file()


def test_a_grid_without_end_is_a_usage_error(here: Path) -> None:
    with pytest.raises(click.UsageError, match="expected 8 to 16384"):
        cli(["evaluate", "small.safetensors", "--data", "a=set", "--eval-size", "100000000"], standalone_mode=False)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["claims", "--results", "x"], "--results 'x': expected NAME=DIR"),
        (["plan", "--set", "image_size=1000000000"], "image size 1000000000 does not fit: use at most 65536"),
    ],
)
def test_odd_words_to_the_comparison(words: list[str], message: str) -> None:
    with pytest.raises(mp.MedcorePruneError, match=message):
        bench(words, standalone_mode=False)


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("DefaultCPUAllocator: can't allocate memory: 75 GB")])
def test_memory_that_is_not_there_is_said(error: Exception, capfd: pytest.CaptureFixture[str]) -> None:
    def fails() -> None:
        raise error

    with pytest.raises(SystemExit) as ended:
        group.run(click.Command("x", callback=fails))
    assert ended.value.code == 1
    assert capfd.readouterr().err == "error: out of memory: use smaller images, a smaller batch or another device\n"
