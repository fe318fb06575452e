from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner, Result
from PIL import Image
from tiny import tiny_sam

import medcore_prune as mp
from medcore_prune._support.errors import DataError, WriteError
from medcore_prune.commands.cli import cli


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    mp.save(tiny_sam(), "model.safetensors")
    (tmp_path / "set").mkdir()
    for index, size in enumerate([(40, 56), (48, 32)]):
        pixels = np.random.default_rng(index).integers(0, 255, (*size, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / "set" / f"i{index}.png")
    return tmp_path


def run(*words: str) -> Result:
    return CliRunner().invoke(cli, ["predict", "model.safetensors", *words])


def test_masks_are_those_of_the_predictor_in_the_images_size(here: Path) -> None:
    result = run("set/i0.png", "--box", "4,5,30,35", "--box", "10,10,50,39", "--out", "out")
    assert result.exit_code == 0, result.output
    predictor = mp.Predictor(mp.load("model.safetensors"))
    predictor.set_image(mp.data.read_image("set/i0.png"))
    for place, box in enumerate([(4, 5, 30, 35), (10, 10, 50, 39)]):
        written = np.array(Image.open(here / f"out/i0_mask_{place}.png"))
        assert written.shape == (40, 56)
        assert np.array_equal(written == 255, predictor.predict(box))
        assert set(np.unique(written)) <= {0, 255}
    # enlarged until the contour can be seen
    assert np.array(Image.open(here / "out/i0_overlay.png")).shape == (400, 560, 3)


def test_a_folder_with_a_table_of_boxes(here: Path) -> None:
    # by stem or by file name
    (here / "boxes.csv").write_text("name,x0,y0,x1,y1\ni0,1,1,20,20\ni1.png,2,2,30,30\n")
    result = run("set", "--boxes", "boxes.csv", "--out", "out", "--no-overlay")
    assert result.exit_code == 0, result.output
    assert "2 masks of 2 images" in result.output
    assert sorted(path.name for path in (here / "out").glob("[!.]*")) == ["areas.csv", "i0_mask.png", "i1_mask.png"]


def test_nothing_is_overwritten_unless_asked(here: Path) -> None:
    words = ("set/i0.png", "--box", "4,5,30,35", "--out", "out")
    assert run(*words).exit_code == 0
    (here / "out/i0_mask.png").write_bytes(b"mine")
    again = run(*words)
    assert isinstance(again.exception, WriteError)
    assert "already there: out/i0_mask.png" in str(again.exception)
    assert (here / "out/i0_mask.png").read_bytes() == b"mine"
    assert run(*words, "--overwrite").exit_code == 0
    assert (here / "out/i0_mask.png").read_bytes() != b"mine"


@pytest.mark.parametrize(
    ("words", "table", "message"),
    [
        (["set"], "", "is a folder: give --boxes"),
        (["set/i0.png"], "", "is one image: give --box"),
        (["nowhere.png", "--box", "1,1,2,2"], "", "no such file or folder"),
        (["set/i0.png", "--box", "100,100,120,120"], "", "i0.png: box .* lies outside of the image"),
        (["set", "--boxes", "boxes.csv"], "", "no row in --boxes"),
        (["set", "--boxes", "boxes.csv"], "i0,1,1,2,2\ni1,1,1,2,2\nx,1,1,2,2\n", "row without an image: x"),
    ],
)
def test_mistakes_are_found_before_anything_is_written(here: Path, words: list[str], table: str, message: str) -> None:
    (here / "boxes.csv").write_text("name,x0,y0,x1,y1\n" + table)
    result = run(*words, "--out", "out")
    assert isinstance(result.exception, DataError), result.output
    with pytest.raises(DataError, match=message):
        raise result.exception
    assert not (here / "out").exists()


@pytest.mark.parametrize(
    ("box", "note"),
    [
        ("0.1,0.2,0.6,0.7", "is smaller than 2 pixels; boxes are in pixels"),
        ("10,10,90,30", "reaches out of the image of 56 x 40 pixels"),
        ("10,10,55,39", ""),
    ],
)
def test_an_odd_box_is_used_and_said(here: Path, box: str, note: str) -> None:
    result = run("set/i0.png", "--box", box, "--out", "out")
    assert result.exit_code == 0, result.output
    assert ("note: set/i0.png: the box" in result.output) is bool(note)
    assert note in result.output
    assert "1 mask of 1 image in" in result.output


def test_a_folder_of_folders_says_what_is_in_it(here: Path) -> None:
    (here / "boxes.csv").write_text("name,x0,y0,x1,y1\ni0,1,1,20,20\n")
    result = run(".", "--boxes", "boxes.csv")
    assert "holds no image" in str(result.exception)
    assert "did you mean a folder in it (set)?" in str(result.exception)


def test_images_in_folders_within_are_said_not_to_be_read(here: Path) -> None:
    (here / "set/nested/deeper").mkdir(parents=True)
    for name in ("a.PNG", "b.png", "notes.txt", ".hidden.png"):
        (here / "set/nested/deeper" / name).write_bytes((here / "set/i0.png").read_bytes())
    (here / "boxes.csv").write_text("name,x0,y0,x1,y1\ni0,1,1,20,20\ni1,1,1,20,20\n")
    result = run("set", "--boxes", "boxes.csv", "--out", "out", "--no-overlay")
    assert result.exit_code == 0, result.output
    assert "note: images in folders within set are not read: nested/deeper/ (2)\n" in result.output
    # masks that an earlier run left within are none of them
    for _ in range(2):
        result = run("set", "--boxes", "boxes.csv", "--out", "set/out", "--no-overlay")
        assert result.exit_code == 0, result.output
        assert "not read: nested/deeper/ (2)\n" in result.output


def test_a_box_that_is_none_is_a_usage_error(here: Path) -> None:
    result = run("set/i0.png", "--box", "1,2,3")
    assert result.exit_code == 2
    assert "expected four numbers such as 10,20,80,90" in result.output


@pytest.mark.parametrize(
    "table",
    [
        "i0,1,1,20,20\ni0.png,5,5,30,30\n",
        "../i0,1,1,20,20\ni0,5,5,30,30\n",
        "i0,1,1,20,20\ni0,5,5,30,30\n",
    ],
)
def test_an_image_may_have_several_boxes_or_none(here: Path, table: str) -> None:
    (here / "boxes.csv").write_text("name,x0,y0,x1,y1\n" + table)
    result = run("set", "--boxes", "boxes.csv", "--out", "out", "--no-overlay")
    assert result.exit_code == 0, result.output
    assert "note: no box in --boxes, so no mask: i1" in result.output
    assert "written: 2 masks of 1 image in out, with areas.csv; 1 image without a box left out" in result.output
    assert sorted(path.name for path in (here / "out").glob("[!.]*")) == [
        *("areas.csv", "i0_mask_0.png", "i0_mask_1.png"),
    ]
    predictor = mp.Predictor(mp.load("model.safetensors")).set_image(mp.data.read_image("set/i0.png"))
    for place, box in enumerate([(1, 1, 20, 20), (5, 5, 30, 30)]):
        written = np.array(Image.open(here / f"out/i0_mask_{place}.png"))
        assert np.array_equal(written == 255, predictor.predict(box))


def test_two_files_of_one_stem_do_not_overwrite_each_other(here: Path) -> None:
    (here / "set" / "i0.jpg").write_bytes((here / "set" / "i0.png").read_bytes())
    (here / "boxes.csv").write_text("name,x0,y0,x1,y1\ni0,1,1,20,20\ni1,2,2,30,30\n")
    result = run("set", "--boxes", "boxes.csv", "--out", "out")
    assert isinstance(result.exception, DataError), result.output
    assert "two images of one name: i0.png" in str(result.exception)


def test_what_is_read_is_never_written_over(here: Path) -> None:
    (here / "set" / "i1.png").rename(here / "set" / "i0_mask.png")
    (here / "boxes.csv").write_text("name,x0,y0,x1,y1\ni0,1,1,20,20\ni0_mask,2,2,30,30\n")
    before = (here / "set" / "i0_mask.png").read_bytes()
    result = run("set", "--boxes", "boxes.csv", "--out", "set", "--overwrite")
    assert isinstance(result.exception, DataError), result.output
    assert "over images that are read: set/i0_mask.png" in str(result.exception)
    assert (here / "set" / "i0_mask.png").read_bytes() == before


def test_rows_and_links_lead_nowhere_outside_of_out(here: Path) -> None:
    (here / "secret.png").write_bytes(b"mine")
    (here / "out").mkdir()
    (here / "out" / "i0_mask.png").symlink_to(here / "secret.png")
    (here / "boxes.csv").write_text("name,x0,y0,x1,y1\n../../i0,1,1,20,20\ni1,2,2,30,30\n")
    result = run("set", "--boxes", "boxes.csv", "--out", "out", "--overwrite")
    assert result.exit_code == 0, result.output
    assert (here / "secret.png").read_bytes() == b"mine"
    assert sorted(path.name for path in here.iterdir()) == [
        "boxes.csv",
        "model.safetensors",
        "out",
        "secret.png",
        "set",
    ]


@pytest.mark.parametrize("box", ["40,30,10,5", "500,500,600,600"])
def test_a_box_that_cannot_be_used_is_one_message(here: Path, box: str) -> None:
    result = run("set/i0.png", "--box", box, "--out", "out")
    assert isinstance(result.exception, DataError)
    assert "note: " not in result.output


def areas(here: Path) -> pd.DataFrame:
    return pd.read_csv(here / "out/areas.csv")


def test_areas_are_those_of_the_masks_that_were_written(here: Path) -> None:
    (here / "boxes.csv").write_text("name,x0,y0,x1,y1\ni0,1,1,20,20\ni1,2,2,30,30\ni1,4,4,20,40\n")
    assert run("set", "--boxes", "boxes.csv", "--out", "out").exit_code == 0
    table = areas(here)
    assert list(table["file"]) == ["i0_mask.png", "i1_mask_0.png", "i1_mask_1.png"]
    assert list(table["image"]) == ["i0.png", "i1.png", "i1.png"]
    assert table[["x0", "y0", "x1", "y1"]].values.tolist() == [[1, 1, 20, 20], [2, 2, 30, 30], [4, 4, 20, 40]]
    for row in table.itertuples():
        mask = np.array(Image.open(here / "out" / row.file)) > 0
        assert row.area_px == mask.sum()
        assert row.share_of_image == mask.mean()
    # of photographs nobody knows how large a pixel is
    assert table["area_mm2"].isna().all()


def test_areas_of_other_images_stay_and_missing_ones_are_measured_again(here: Path) -> None:
    first = ("set/i0.png", "--box", "4,5,30,35", "--out", "out")
    assert run(*first).exit_code == 0
    assert run("set/i1.png", "--box", "4,5,30,35", "--out", "out").exit_code == 0
    both = areas(here)
    assert list(both["file"]) == ["i0_mask.png", "i1_mask.png"]
    # as after a kill between the masks and the table
    both[both["file"] != "i0_mask.png"].to_csv(here / "out/areas.csv", index=False)
    again = run(*first)
    assert "done before" in again.output
    assert sorted(areas(here)["file"]) == ["i0_mask.png", "i1_mask.png"]
    assert areas(here).set_index("file").loc["i0_mask.png", "area_px"] == both["area_px"][0]


def test_a_table_of_that_name_that_is_not_ours_is_kept(here: Path) -> None:
    (here / "out").mkdir()
    (here / "out/areas.csv").write_text("patient,area\n1,2\n")
    result = run("set/i0.png", "--box", "4,5,30,35", "--out", "out")
    assert isinstance(result.exception, WriteError)
    assert "is not the table that goes there" in str(result.exception)
    assert (here / "out/areas.csv").read_text() == "patient,area\n1,2\n"
    assert not (here / "out/i0_mask.png").exists()


def test_a_name_that_a_spreadsheet_would_run_is_guarded_and_found_again(here: Path) -> None:
    (here / "set/i0.png").rename(here / "set/=1+1.png")
    words = ("set/=1+1.png", "--box", "4,5,30,35", "--out", "out")
    assert run(*words).exit_code == 0
    text = (here / "out/areas.csv").read_text()
    assert "\n'=1+1_mask.png" in text
    (here / "out/=1+1_mask.png").unlink()
    assert run(*words, "--overwrite").exit_code == 0
    assert (here / "out/areas.csv").read_text() == text
