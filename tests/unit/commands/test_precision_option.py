"""`--precision`: what it is refused for, and that results of one precision are not taken for those of another."""

import json
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner, Result

import medcore_prune as mp
from medcore_prune.benchmarks.cli import cli as bench
from medcore_prune.commands.cli import cli
from medcore_prune.pruning.surgery import lineage_of


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def run(*words: str) -> Result:
    return CliRunner().invoke(cli, words)


@pytest.mark.parametrize(
    "words",
    [
        ("prune",),
        ("compress", "pocket", "--data", "a=nowhere"),
    ],
)
def test_what_compares_small_differences_refuses_bfloat16(words: tuple[str, ...]) -> None:
    result = run(*words, "--precision", "bf16")
    assert result.exit_code == 1
    assert "precision bf16: not here" in str(result.exception)
    result = CliRunner().invoke(bench, ["baselines", "--quick", "--precision", "bf16"])
    assert "precision bf16: not here" in str(result.exception)


@pytest.mark.parametrize(
    "words",
    [("evaluate",), ("prune",), ("recover",), ("adapt", "pocket", "--data", "a=nowhere", "--out", "a.pth")],
)
def test_a_cpu_has_no_tf32(words: tuple[str, ...]) -> None:
    result = run(*words, "--precision", "tf32")
    assert "precision tf32: cpu has none" in str(result.exception)


def test_masks_of_one_precision_are_not_those_of_another() -> None:
    assert run("phantoms", "--count", "1", "--out", "set").exit_code == 0
    image = str(next(Path("set/images").iterdir()))
    words = ("predict", "pocket", image, "--box", "30,30,70,70", "--out", "masks", "--precision")
    assert run(*words, "fp32").exit_code == 0
    again = run(*words, "fp32")
    assert "done before" in again.output
    other = run(*words, "bf16")
    assert other.exit_code == 1
    assert "already there" in str(other.exception)


def test_an_evaluation_says_its_precision() -> None:
    before = torch.backends.cuda.matmul.fp32_precision, torch.backends.cudnn.conv.fp32_precision
    for word in ("fp32", "bf16"):
        result = run("evaluate", "pocket", "--images", "1", "--precision", word, "--out", word)
        assert result.exit_code == 0, result.output
        assert f"Computed in {word} on cpu." in (Path(word) / "summary.md").read_text()
    assert Path("fp32/images.csv").read_text() != Path("bf16/images.csv").read_text()
    assert (torch.backends.cuda.matmul.fp32_precision, torch.backends.cudnn.conv.fp32_precision) == before


def test_models_say_in_what_they_were_made() -> None:
    few = ("--method", "magnitude", "--calibration", "1")
    cut = run("prune", *few, "--level", "h50_m50", "--out", "small.safetensors")
    assert cut.exit_code == 0, cut.output
    assert json.loads(Path("small.report.json").read_text())["precision"] == "fp32"
    for word in ("fp32", "bf16"):
        words = ("recover", "small.safetensors", "--steps", "1", "--out", f"{word}.safetensors", "--precision", word)
        assert run(*words).exit_code == 0
    made = {word: mp.load(f"{word}.safetensors") for word in ("fp32", "bf16")}
    settings = {word: lineage_of(model).provenance["recovered"]["settings"] for word, model in made.items()}
    assert {word: each["precision"] for word, each in settings.items()} == {
        "fp32": "fp32",
        "bf16": "bf16",
    }
