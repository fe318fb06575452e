from pathlib import Path

import numpy as np
import pytest
from skimage.io import imsave

from medcore_prune._support.errors import DataError
from medcore_prune.data.folders.folder import named_folders, parse_named


def test_names_and_folders_in_order() -> None:
    assert parse_named(["b=x/y", "a=z=1"]) == {"b": Path("x/y"), "a": Path("z=1")}


@pytest.mark.parametrize("word", ["folder", "=folder", "name="])
def test_words_without_name_or_folder(word: str) -> None:
    with pytest.raises(DataError, match="expected NAME=DIR"):
        parse_named([word])


def test_a_name_given_twice() -> None:
    with pytest.raises(DataError, match="'a' is given twice"):
        parse_named(["a=x", "a=y"])


def test_problems_of_all_folders_are_reported_together(tmp_path: Path) -> None:
    for kind, value in (("images", 90), ("masks", 255)):
        (tmp_path / "good" / kind).mkdir(parents=True)
        pixels = np.zeros((20, 20), np.uint8)
        pixels[5:15, 5:15] = value
        imsave(tmp_path / "good" / kind / "1.png", pixels, check_contrast=False)
    assert len(named_folders({"good": tmp_path / "good"})["good"]) == 1
    with pytest.raises(DataError) as caught:
        named_folders(
            {"a": tmp_path / "none", "good": tmp_path / "good", "b": tmp_path / "nothing"},
            boxes={"bad": tmp_path / "boxes.csv"},
        )
    assert "none" in str(caught.value)
    assert "nothing" in str(caught.value)
    assert "--boxes bad=...: there is no --data bad=..." in str(caught.value)
