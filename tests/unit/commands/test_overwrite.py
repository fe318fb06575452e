"""One rule for every command: what is there is replaced only where that is asked for."""

from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from tiny import tiny_sam

import medcore_prune as mp
from medcore_prune.cli import COMMANDS, cli
from medcore_prune.errors import MedcorePruneError

DATA = "--data own=set --image-size 48"
TRAINED = f"{DATA} --steps 1 --batch-size 2"
PRUNED = f"prune --adapted model.safetensors {DATA} --method magnitude --verify 1"
# a file that a command writes, and the command
WRITTEN = {
    "adapted.pth": f"adapt {TRAINED} --out adapted.pth",
    "small.safetensors": f"{PRUNED} --out small.safetensors",
    "plan.json": f"{PRUNED} --out other.safetensors --plan-out plan.json",
    "blocks.png": "inspect model.safetensors --out blocks.png",
    "tables/summary.md": f"evaluate model.safetensors {DATA} --eval-size 32 --out tables",
    "tables/images.csv": f"evaluate model.safetensors {DATA} --eval-size 32 --out tables",
    "recovered.safetensors": f"recover --pruned model.safetensors --teacher model.safetensors {TRAINED} "
    "--validate-every 0 --out recovered.safetensors",
    "masks/s0_000000_mask.png": "predict set/images/s0_000000.png --box 4,5,30,35 --pruned model.safetensors "
    "--out masks",
    "onnx/encoder.onnx": f"export model.safetensors --part encoder {DATA} --out onnx",
}


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MEDCORE_PRUNE_CACHE", str(tmp_path / "cache"))
    assert run("phantoms --count 10 --size 48 --out set").exit_code == 0
    mp.save(tiny_sam(), "model.safetensors")
    return tmp_path


def run(words: str) -> Result:
    return CliRunner().invoke(cli, words.split())


def test_every_command_is_looked_at() -> None:
    # phantoms wants a folder that is new or empty
    assert {words.split()[0] for words in WRITTEN.values()} == COMMANDS.keys() - {"phantoms"}
    assert "is not empty" in str(run("phantoms --out set").exception)


@pytest.mark.parametrize("name", WRITTEN)
def test_what_is_there_is_replaced_only_where_that_is_asked_for(here: Path, name: str) -> None:
    if name.endswith(".onnx"):
        pytest.importorskip("onnxruntime")
    (here / name).parent.mkdir(exist_ok=True)
    (here / name).write_bytes(b"mine")
    before = sorted(here.rglob("*"))
    result = run(WRITTEN[name])
    assert isinstance(result.exception, MedcorePruneError)
    assert str(result.exception) == f"already there: {name}; choose another name, or give --overwrite"
    assert sorted(here.rglob("*")) == before
    assert (here / name).read_bytes() == b"mine"
    result = run(f"{WRITTEN[name]} --overwrite")
    assert result.exit_code == 0, (result.output, result.exception)
    assert (here / name).read_bytes() != b"mine"
    # the same command again
    assert "already there" in str(run(WRITTEN[name]).exception)
