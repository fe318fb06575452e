"""One rule for every command: what is there is replaced only where that is asked for."""

from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from tiny import tiny_sam

import medcore_prune as mp
from medcore_prune._support.errors import MedcorePruneError, WriteError
from medcore_prune._support.files import exclusive
from medcore_prune.commands.cli import COMMANDS, cli

DATA = "--data own=set"
TRAINED = f"{DATA} --steps 1"
ADAPTED = f"adapt pocket {TRAINED} --image-size 48"
PRUNED = f"prune model.safetensors {DATA} --method magnitude"
RECOVERED = f"recover model.safetensors --teacher model.safetensors {TRAINED}"
# a file that a command writes, and the command
WRITTEN = {
    "adapted.json": f"{ADAPTED} --out adapted.pth",
    "adapted.pth": f"{ADAPTED} --out adapted.pth",
    "small.safetensors": f"{PRUNED} --out small.safetensors",
    "small.report.md": f"{PRUNED} --out small.safetensors",
    "plan.json": f"{PRUNED} --out other.safetensors --plan-out plan.json",
    "blocks.png": "inspect model.safetensors --out blocks.png",
    "tables/summary.md": f"evaluate model.safetensors {DATA} --eval-size 32 --out tables",
    "tables/figures.json": f"evaluate model.safetensors {DATA} --eval-size 32 --out tables",
    "model.card.md": "card model.safetensors",
    "tables/images.csv": f"evaluate model.safetensors {DATA} --eval-size 32 --out tables",
    "recovered.safetensors": f"recover model.safetensors --teacher model.safetensors {TRAINED} "
    "--validate-every 0 --out recovered.safetensors",
    "recovered.loss.csv": f"recover model.safetensors --teacher model.safetensors {TRAINED} "
    "--validate-every 0 --out recovered.safetensors",
    "masks/s0_000000_mask.png": "predict model.safetensors set/images/s0_000000.png --box 4,5,30,35 --out masks",
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
    # both want a folder that is new or empty, but for what compress itself made there
    assert {words.split()[0] for words in WRITTEN.values()} == COMMANDS.keys() - {"phantoms", "compress"}
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
    # the same command again knows what it wrote, but for drawings, which are no work
    result = run(WRITTEN[name])
    if name == "blocks.png":
        assert "already there" in str(result.exception)
    else:
        assert (result.exit_code, "nothing to do" in result.output or "done before" in result.output) == (0, True)


@pytest.mark.parametrize(
    ("prepared", "words"),
    [
        ("adapted.state.pt", f"adapt adapted.state.pt {TRAINED} --fresh --out adapted.pth"),
        (
            "r.state.pt",
            f"recover model.safetensors --teacher r.state.pt {TRAINED} --fresh --out r.safetensors",
        ),
        ("r.loss.csv", f"{RECOVERED} --data own.boxes=r.loss.csv --out r.safetensors"),
        ("b.csv", f"{PRUNED} --data own.boxes=b.csv --plan-out b.csv --out s.safetensors"),
        ("s.split.json", f"{PRUNED} --data own.boxes=s.split.json --out s.safetensors"),
    ],
)
def test_nothing_that_is_read_is_written_over_or_removed(here: Path, prepared: str, words: str) -> None:
    (here / prepared).write_bytes(b"mine")
    result = run(f"{words} --overwrite")
    assert str(result.exception).startswith(f"{prepared} is the file {prepared} that is read"), result.output
    assert (here / prepared).read_bytes() == b"mine"


def test_one_file_is_not_asked_for_twice(here: Path) -> None:
    result = run(f"{PRUNED} --plan-out s.report.json --out s.safetensors")
    assert "s.report.json is asked for twice" in str(result.exception)
    assert not list(here.glob("s.*"))


@pytest.mark.parametrize("name", ["z.split.json", "z.loss.csv", "z.state.pt"])
def test_a_folder_in_the_place_of_a_file_is_said_before_the_work(here: Path, name: str) -> None:
    (here / name).mkdir()
    result = run(f"recover model.safetensors --teacher model.safetensors {TRAINED} --out z.safetensors")
    assert f"{name} is a folder, expected the name of a file" in str(result.exception)
    assert "training" not in result.output


def test_a_name_that_is_too_long_is_said_before_the_work() -> None:
    name = "a" * 242 + ".safetensors"
    result = run(f"recover model.safetensors --teacher model.safetensors {TRAINED} --out {name}")
    assert "expected a name of at most 255 bytes" in str(result.exception)
    assert "training" not in result.output


def test_the_split_of_another_model_is_not_replaced(here: Path) -> None:
    assert run(f"{ADAPTED} --out k.pth").exit_code == 0
    before = (here / "k.split.json").read_bytes()
    pruning = "prune k.pth --reference pocket --method magnitude --overwrite"
    assert run("phantoms --set phantom_polyp_b --seed 9 --count 10 --size 48 --out others").exit_code == 0
    result = run(f"{pruning} --data other=others --out k.safetensors")
    assert str(result.exception) == (
        "k.split.json is the split of k.pth, and this one differs: choose another name for --out"
    )
    assert not (here / "k.safetensors").exists()
    # the same split does for both
    result = run(f"{pruning} --data own=set --out k.safetensors")
    assert result.exit_code == 0, (result.output, result.exception)
    assert (here / "k.split.json").read_bytes() == before
    # a model of another split at the same name
    assert run(f"{pruning} --data own=set --out s.safetensors").exit_code == 0
    words = "prune model.safetensors --data own=set --split-seed 5 --method magnitude"
    (here / "s.safetensors").unlink()
    (here / "s.report.json").unlink()
    (here / "s.report.md").unlink()
    result = run(f"{words} --out s.safetensors")
    assert str(result.exception) == "already there: s.split.json; choose another name, or give --overwrite"
    assert run(f"{words} --out s.safetensors --overwrite").exit_code == 0


def test_a_second_command_that_would_write_the_same_model_is_refused(here: Path) -> None:
    for words in (WRITTEN["recovered.safetensors"], WRITTEN["adapted.pth"], WRITTEN["small.safetensors"]):
        with exclusive(Path(words.split()[-1])):
            result = run(words)
        assert "another run is writing to" in str(result.exception)


def test_where_the_model_cannot_be_written_what_is_there_stays(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    words = f"{PRUNED} --out small.safetensors"
    assert run(words).exit_code == 0
    before = {path: path.read_bytes() for path in here.glob("small.*")}

    def full(*_: object, **__: object) -> None:
        raise WriteError("small.safetensors cannot be written: No space left on device")

    monkeypatch.setattr("medcore_prune.commands.work.prune.save", full)
    result = run(f"{words} --split-seed 5 --level h10_m10 --overwrite")
    assert "No space left" in str(result.exception)
    assert {path: path.read_bytes() for path in here.glob("small.*")} == before
    assert not list(here.glob(".*.writing-*"))
