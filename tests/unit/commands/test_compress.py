"""`medcore-prune compress`: how much goes, what is kept of a stopped run, and what the report says."""

import json
import runpy
from importlib.util import find_spec
from pathlib import Path

import pandas as pd
import pytest
from click.testing import CliRunner, Result
from PIL import Image
from tiny import tiny_sam

import medcore_prune as mp
from medcore_prune._support.errors import MedcorePruneError
from medcore_prune.checkpoints.sam import load_checkpoint
from medcore_prune.commands.cli import cli
from medcore_prune.commands.work.compressing.candidates import Candidate, Candidates, bisect
from medcore_prune.evaluation.intervals import Difference
from medcore_prune.models.families import geometry_of
from medcore_prune.pruning.level import Level

SHORT = "--level h50_m50 --images 2 --recover 1 --batch-size 2 --no-onnx"


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MEDCORE_PRUNE_CACHE", str(tmp_path / "cache"))
    assert run("phantoms --count 20 --size 48 --out set").exit_code == 0
    mp.save(tiny_sam(), "model.safetensors")
    return tmp_path


def run(words: str) -> Result:
    return CliRunner().invoke(cli, words.split())


@pytest.mark.parametrize("last", range(-1, 9))
def test_bisection_finds_the_last_that_holds(last: int) -> None:
    asked: list[int] = []

    def holds(place: int) -> bool:
        asked.append(place)
        return place <= last

    assert bisect(9, holds) == (None if last < 0 else last)
    assert len(asked) == len(set(asked)) <= 4


class Known(Candidates):
    """Candidates whose loss is known: what a level loses in Boundary F1 is its share of heads squared."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def of(self, goal: object) -> Candidate:
        assert isinstance(goal, Level)
        self.asked.append(str(goal))
        lost = -(goal.heads**2)
        return Candidate(str(goal), tiny_sam(), Difference(lost, lost, lost, 10), pd.DataFrame())


@pytest.mark.parametrize(("loss", "name"), [(0.02, "h10_m10"), (0.26, "h50_m50"), (0.9, "h90_m90")])
def test_the_smallest_model_within_the_loss_is_taken(loss: float, name: str) -> None:
    assert Known().smallest_within(loss).name == name


def test_where_none_keeps_the_contour_it_is_said_what_the_mildest_loses() -> None:
    with pytest.raises(MedcorePruneError, match=r"0\.005: with a tenth gone 0\.0100 is lost"):
        Known().smallest_within(0.005)


def test_one_line_makes_a_smaller_model_and_its_report(here: Path) -> None:
    done = run(f"compress model.safetensors --data own=set {SHORT} --out made")
    assert done.exit_code == 0, (done.output, done.exception)
    made = here / "made"
    stored = json.loads((made / "compress.json").read_text())
    small = mp.load(made / stored["final"])
    assert mp.count(small).params < mp.count(tiny_sam()).params
    table = {row["test images"]: row for row in stored["table"]}
    report = (made / "report.md").read_text()
    assert all(name in report for name in table)
    # what is no better than a box is said, as by the other commands
    floors = {name: float(row["after"]) for name, row in table.items() if name.startswith("BF1 of ")}
    best = max(floors, key=lambda name: floors[name]).removeprefix("BF1 of ")
    assert float(table["BF1"]["after"]) <= max(floors.values())
    said = next(
        line for line in report.splitlines() if line.startswith("after: no better than answers without a model")
    )
    assert f"BF1: {best}" in said
    assert said in done.output
    assert "(indicative: 2 groups of images)" in done.output
    # and what was noticed of the folder is said once, by however many steps it is opened
    assert done.output.count("20 images are synthetic") == 1
    # the figures are those of the test images of the split that lies beside the model
    split = json.loads((made / "small.split.json").read_text())
    sets = {"own": mp.data.folder("set")}
    roles = mp.data.split(sets)
    assert split["seed"] == 0
    frame = mp.evaluate(small, roles.test, progress=False)
    assert float(table["BF1"]["after"]) == pytest.approx(frame["bf1"].mean(), abs=1e-4)
    assert float(table["BF1"]["before"]) == pytest.approx(
        mp.evaluate(tiny_sam(), roles.test, progress=False)["bf1"].mean(), abs=1e-4
    )
    assert geometry_of(small).image_size == geometry_of(tiny_sam()).image_size
    # the same line again finds everything made, and says the same
    times = {path: path.stat().st_mtime_ns for path in made.rglob("*.safetensors")}
    again = run(f"compress model.safetensors --data own=set {SHORT} --out made")
    assert again.exit_code == 0
    assert {path: path.stat().st_mtime_ns for path in made.rglob("*.safetensors")} == times
    # another question does not
    other = run(f"compress model.safetensors --data own=set {SHORT} --seed 1 --out made")
    assert other.exit_code == 1
    assert "another compression (other seed)" in str(other.exception)
    fresh = run(f"compress model.safetensors --data own=set {SHORT} --seed 1 --fresh --out made")
    assert fresh.exit_code == 0
    assert json.loads((made / "compress.json").read_text())["asked"]["seed"] == 1


def test_what_is_adapted_first_is_the_average_that_validation_images_choose(here: Path) -> None:
    words = SHORT.replace("--recover 1", "--recover 0")
    done = run(f"compress pocket --data own=set {words} --adapt 2 --out made")
    assert done.exit_code == 0, (done.output, done.exception)
    record = json.loads((here / "made" / "adapted.json").read_text())
    assert record["settings"]["average"] is True
    looks = record["averages"]
    assert sorted(look["share"] for look in looks) == [0, 0.25, 0.5, 0.75, 1]
    assert looks[0]["bf1"] == max(look["bf1"] for look in looks)
    # what is compared with is the adapted model
    roles = mp.data.split({"own": mp.data.folder("set")})
    adapted = load_checkpoint(here / "made" / "adapted.pth")
    table = {row["test images"]: row for row in json.loads((here / "made" / "compress.json").read_text())["table"]}
    scored = mp.evaluate(adapted, roles.test, progress=False)
    assert float(table["BF1"]["before"]) == pytest.approx(scored["bf1"].mean(), abs=1e-4)


@pytest.mark.skipif(find_spec("onnxruntime") is None, reason="needs the extra onnx")
def test_what_it_exports_makes_masks_without_this_package(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    words = SHORT.replace("--recover 1", "--recover 0").replace("--no-onnx", "")
    done = run(f"compress model.safetensors --data own=set {words} --out made")
    assert done.exit_code == 0, (done.output, done.exception)
    monkeypatch.setattr("sys.argv", ["segment.py"])
    script = runpy.run_path("made/onnx/segment.py")
    sample = mp.data.folder("set")[0]
    mask = script["segment"](script["open_model"]("made/onnx"), Image.fromarray(sample.image), sample.box)
    expected = mp.Predictor(mp.load("made/small.safetensors")).set_image(sample.image).predict(sample.box)
    assert (mask == expected).mean() > 0.99
    assert "encoder_int8.onnx, MB" in done.output
    assert "exported first" not in (here / "made/onnx/README.md").read_text()


def test_a_folder_of_other_files_is_left_alone(here: Path) -> None:
    (here / "made").mkdir()
    (here / "made" / "thesis.txt").write_text("mine")
    done = run(f"compress model.safetensors --data own=set {SHORT} --fresh --out made")
    assert done.exit_code == 1
    assert "holds other files" in str(done.exception)
    assert [path.name for path in (here / "made").glob("[!.]*")] == ["thesis.txt"]


def test_fresh_leaves_alone_what_no_compression_wrote(here: Path) -> None:
    words = f"compress model.safetensors --data own=set {SHORT.replace('--recover 1', '--recover 0')} --fresh --out"
    # another program's folder, which happens to hold a file of that name
    for content in ('{"asked": {"format": "mine"}}', "[]", "{"):
        theirs = here / "theirs"
        (theirs / "candidates").mkdir(parents=True, exist_ok=True)
        (theirs / "compress.json").write_text(content)
        (theirs / "candidates" / "thesis.safetensors").write_text("three years")
        for how in ("--fresh", "--resume"):
            done = run(f"{words.replace('--fresh', how)} theirs")
            assert done.exit_code == 1
            assert "holds other files" in str(done.exception)
        assert (theirs / "candidates" / "thesis.safetensors").read_text() == "three years"
    # a compression's own folder, into which somebody put something
    assert run(f"{words} made").exit_code == 0
    notes = [here / "made" / name for name in ("candidates/notes.txt", "small.notes.txt")]
    for path in notes:
        path.write_text("mine")
    again = run(f"{words} made --seed 1")
    assert again.exit_code == 0, (again.output, again.exception)
    assert all(path.read_text() == "mine" for path in notes)
    assert json.loads((here / "made" / "compress.json").read_text())["asked"]["seed"] == 1


@pytest.mark.parametrize(
    "words", ["--level h50_m50 --target params=50%", "--level h50_m50 --keep-contour 0.02", "--keep-contour 0"]
)
def test_how_much_goes_is_said_once(here: Path, words: str) -> None:
    assert run(f"compress model.safetensors --data own=set {words}").exit_code == 2
