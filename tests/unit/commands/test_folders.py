"""The words of `--data`: names, folders, layouts and boxes."""

from pathlib import Path

import pytest
from click.testing import CliRunner

from medcore_prune._support.errors import DataError
from medcore_prune.commands.cli import cli
from medcore_prune.commands.work.folders import Named, open_data, parse_data, parse_named


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    assert CliRunner().invoke(cli, ["phantoms", "--count", "2", "--size", "48", "--out", "set"]).exit_code == 0
    return tmp_path


def test_a_layout_is_what_a_layout_is_called() -> None:
    assert parse_data(["a=set"]) == {"a": Named(Path("set"))}
    assert parse_data(["a=set:plain"]) == {"a": Named(Path("set"), "plain")}
    assert parse_data(["a=set:auto"]) == {"a": Named(Path("set"))}
    # drives, and colons in names of folders
    assert parse_data([r"a=C:\x"]) == {"a": Named(Path(r"C:\x"))}
    assert parse_data([r"a=C:\x:plain"]) == {"a": Named(Path(r"C:\x"), "plain")}
    assert parse_data(["a=10:30/scans"]) == {"a": Named(Path("10:30/scans"))}


def test_a_folder_with_a_colon_in_its_name_is_that_folder(here: Path) -> None:
    (here / "set").rename(here / "set:plain")
    assert parse_data(["a=set:plain"]) == {"a": Named(Path("set:plain"))}
    assert len(open_data(parse_data(["a=set:plain:plain"]))["a"]) == 2


def test_an_unknown_layout_is_said() -> None:
    with pytest.raises(DataError, match="unknown layout 'plian': did you mean 'plain'"):
        open_data(parse_data(["a=set:plian"]))
    with pytest.raises(DataError, match=r"nowhere:plian: expected a folder of images and masks, there is none"):
        open_data(parse_data(["a=nowhere:plian"]))


def test_boxes_are_named_or_lie_beside(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = (here / "set" / "boxes.csv").read_text().splitlines()
    moved = [",".join([row.split(",")[0], "1,2,30,40"]) for row in rows[1:]]
    (here / "mine.csv").write_text("\n".join([rows[0], *moved]))
    named = parse_data(["a.boxes=mine.csv", "a=set"])
    assert named == {"a": Named(Path("set"), boxes=Path("mine.csv"))}
    assert open_data(named)["a"][0].box == (1, 2, 30, 40)
    assert "boxes from" not in capsys.readouterr().err
    (here / "mine.csv").rename(here / "set.boxes.csv")
    for word in ("a=set", "a=set/", "a=set:plain"):
        assert open_data(parse_data([word]))["a"][0].box == (1, 2, 30, 40)
        assert "a: boxes from set.boxes.csv, which lies beside it" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["a.boxes=mine.csv"], r"--data a\.boxes=\.\.\.: there is no --data a=DIR"),
        (["a=set", "a=other"], "the name 'a' is given twice"),
        (["set"], "expected NAME=DIR"),
    ],
)
def test_words_that_are_wrong(words: list[str], said: str) -> None:
    with pytest.raises(DataError, match=said):
        parse_data(words)


def test_names_and_folders_in_order() -> None:
    assert parse_named(["b=x/y", "a=z=1"]) == {"b": Path("x/y"), "a": Path("z=1")}


@pytest.mark.parametrize("word", ["folder", "=folder", "name="])
def test_words_without_name_or_folder(word: str) -> None:
    with pytest.raises(DataError, match=f"^--data '{word}': expected NAME=DIR"):
        parse_named([word])
    with pytest.raises(DataError, match=f"^--results '{word}': expected NAME=DIR, for example phantoms=results"):
        parse_named([word], "--results")


def test_a_name_given_twice() -> None:
    with pytest.raises(DataError, match="'a' is given twice"):
        parse_named(["a=x", "a=y"])
