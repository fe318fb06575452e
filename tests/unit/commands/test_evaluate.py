from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner, Result
from PIL import Image
from tiny import tiny_sam
from tiny_samples import TinySamples

import medcore_prune as mp
from medcore_prune._support.errors import DataError
from medcore_prune.commands.cli import cli
from medcore_prune.commands.work.evaluate import _notes, by_set, comparison, evaluate_all, summary
from medcore_prune.data.splits.beside import split_file
from medcore_prune.data.splits.split import Split


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    drawn = CliRunner().invoke(cli, ["phantoms", "--count", "10", "--size", "48", "--out", "set"])
    assert drawn.exit_code == 0, drawn.output
    mp.save(tiny_sam(0), "a.safetensors")
    mp.save(tiny_sam(1), "b.safetensors")
    return tmp_path


def run(*words: str) -> Result:
    return CliRunner().invoke(cli, ["evaluate", *words])


def test_rows_are_those_of_evaluate_and_the_comparison_is_paired(here: Path) -> None:
    words = ("--data", "own=set", "--eval-size", "64", "--tolerance", "1.5", "--out", "out")
    result = run("a.safetensors", "--against", "b.safetensors", *words)
    assert result.exit_code == 0, result.output
    rows = pd.read_csv(here / "out/images.csv")
    assert list(rows["model"].unique()) == ["floor: box", "floor: ellipse", "a.safetensors", "b.safetensors"]
    roles = mp.data.split({"own": mp.data.folder("set", name="own")})
    expected = mp.evaluate(mp.load("a.safetensors"), roles, eval_size=64, tolerance_px=1.5, progress=False)
    mine = rows[rows["model"] == "a.safetensors"].reset_index(drop=True)
    pd.testing.assert_series_equal(mine["bf1"], expected["bf1"], check_exact=False)
    assert list(mine["name"]) == list(expected["name"])
    text = (here / "out/summary.md").read_text()
    assert "| minus b.safetensors | metric |" in text
    assert f"{expected['dice'].mean():.4f}" in text
    assert f"{expected['dice'].mean():.4f}" in result.output


def test_roles_are_those_beside_the_model_and_trained_images_are_refused(here: Path) -> None:
    sets = {"own": mp.data.folder("set", name="own")}
    roles = mp.data.split(sets, seed=3)
    roles.save(split_file("a.safetensors"))
    result = run("a.safetensors", "--data", "own=set", "--role", "validation", "--out", "out")
    assert "split: the one beside a.safetensors" in result.output
    names = set(pd.read_csv(here / "out/images.csv")["name"])
    assert names == set(roles.validation["own"].ids)
    # another model, trained on what is the first one's test part
    Split(roles.test, {}, roles.train, 3, (0.7, 0.1, 0.2)).save(split_file("b.safetensors"))
    seen = run("a.safetensors", "--against", "b.safetensors", "--data", "own=set")
    assert isinstance(seen.exception, DataError)
    assert "b.safetensors was trained on own/" in str(seen.exception)
    everything = run("a.safetensors", "--data", "own=set", "--role", "all")
    assert isinstance(everything.exception, DataError)
    assert "a.safetensors was trained on own/" in str(everything.exception)


def test_as_many_images_as_asked_for_of_folders_too(here: Path) -> None:
    words = ("--data", "own=set", "--role", "all", "--images", "3", "--eval-size", "32", "--out", "o")
    result = run("a.safetensors", *words)
    assert result.exit_code == 0, result.output
    rows = pd.read_csv(here / "o/images.csv")
    assert set(rows.groupby("model").size()) == {3}


def test_what_is_not_better_than_a_floor_is_marked() -> None:
    tables = evaluate_all({"untrained": tiny_sam()}, {"own": TinySamples("own", 3)}, 64, 2.0, {"untrained": 2})
    rows = {row[0]: row for row in summary(tables).rows}
    # an untrained decoder draws nonsense
    assert rows["untrained"][2].endswith(" *")
    assert not rows["floor: box"][2].endswith("*")
    assert [row[0] for row in comparison(tables | {"same": tables["untrained"]}, "same").rows] == ["untrained"] * 3
    assert {row[-1] for row in comparison(tables | {"same": tables["untrained"]}, "same").rows} == {"too few groups"}


def scored(groups: int, gain: float) -> pd.DataFrame:
    names = [f"{place:02d}" for place in range(36)]
    values = {"dice": 0.5 + gain, "iou": 0.4, "bf1": 0.6 + gain, "hd95_px": 9.0 - gain}
    frame = pd.DataFrame({"dataset": "own", "name": names, "group": [f"g{place % groups}" for place in range(36)]})
    return frame.assign(**values, empty="none")


@pytest.mark.parametrize(
    ("groups", "said"), [(12, ["better"] * 3), (9, ["too few groups"] * 3), (1, ["too few groups"] * 3)]
)
def test_a_verdict_wants_ten_groups_and_says_which_way(groups: int, said: list[str]) -> None:
    tables = {"small": scored(groups, 0.1), "whole": scored(groups, 0.0)}
    assert [row[-1] for row in comparison(tables, "whole").rows] == said
    if groups == 12:
        assert {row[-1] for row in comparison(tables, "small").rows} == {"worse"}
    notes = _notes(tables, "whole", 256, 2.0)
    assert "not corrected for the 3 comparisons of the table; no verdict with fewer than 10 groups in a set" in notes


def test_each_data_set_is_marked_by_its_own_floors() -> None:
    sets = {"easy": TinySamples("easy", 3), "hard": TinySamples("hard", 3)}
    tables = evaluate_all({"model": tiny_sam()}, sets, 64, 2.0, {"model": 2})
    floors = {name: table.assign(dice=0.5) for name, table in tables.items() if name != "model"}
    dice = tables["model"]["dataset"].map({"easy": 0.6, "hard": 0.4})
    rows = by_set(floors | {"model": tables["model"].assign(dice=dice)}).rows
    assert [(row[1], row[3]) for row in rows if row[0] == "model"] == [("easy", "0.6000"), ("hard", "0.4000 *")]
    assert {row[3] for row in rows if row[0] != "model"} == {"0.5000"}


def test_the_estimate_of_each_model_has_its_name(here: Path) -> None:
    words = ("a.safetensors", "--against", "b.safetensors", "--data", "own=set")
    result = run(*words, "--verbose")
    assert "evaluation of a.safetensors: 2 passes" in result.output
    assert "evaluation of b.safetensors: 2 passes" in result.output
    assert "passes" not in run(*words).output


def test_size_and_time_stand_beside_the_figures(here: Path) -> None:
    mp.save(mp.prune(tiny_sam(0), mp.make_plan(tiny_sam(0), "h50_m70")), "small.safetensors")
    result = run("small.safetensors", "--against", "a.safetensors", "--data", "own=set", "--out", "out")
    assert result.exit_code == 0, result.output
    heading, _, *rows = result.stdout.splitlines()
    assert heading.split()[-3:] == ["M", "params", "ms"]
    cells = {name: next(row.split()[-2:] for row in rows if row.startswith(name)) for name in ("small", "a.", "floor")}
    assert cells["floor"] == ["-", "-"]
    assert cells["small"][0] == f"{mp.count(mp.load('small.safetensors')).params_m:.2f}"
    assert cells["a."][0] == f"{mp.count(tiny_sam(0)).params_m:.2f}" != cells["small"][0]
    assert all(float(ms) > 0 for _, ms in (cells["small"], cells["a."]))
    # a file is the same each time: what is measured of a machine is not in it
    text = (here / "out/summary.md").read_text()
    assert "| HD95 px | M params |\n" in text
    assert "measured now" in result.stdout
    assert "measured now" not in text


def test_an_empty_role_is_named(here: Path) -> None:
    sets = {"own": mp.data.folder("set", name="own")}
    mp.data.split(sets, fractions=(1.0, 0.0, 0.0)).save(split_file("a.safetensors"))
    result = run("a.safetensors", "--data", "own=set")
    assert isinstance(result.exception, DataError)
    assert "there is no test image in this split" in str(result.exception)


def test_images_that_are_compared_at_their_own_size_are_named(here: Path) -> None:
    for place in sorted((here / "set/masks").iterdir())[:2]:
        mask = np.zeros((48, 48), np.uint8)
        mask[20, 20] = 255
        Image.fromarray(mask).save(place)
    result = run("a.safetensors", "--data", "own=set", "--role", "all", "--eval-size", "8", "--out", "out")
    assert result.exit_code == 0, (result.output, result.exception)
    said = (
        "2 of 10 images of own are compared at their own size, for their object is gone from the grid of 8 x 8 pixels"
    )
    assert said in result.stdout
    assert said in (here / "out/summary.md").read_text()
    assert not (pd.read_csv(here / "out/images.csv")["empty"] == "both").any()
