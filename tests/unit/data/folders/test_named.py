from pathlib import Path

import pytest

from medcore_prune._support.errors import DataError
from medcore_prune.data.folders.folder import parse_named


def test_names_and_folders_in_order() -> None:
    assert parse_named(["b=x/y", "a=z=1"]) == {"b": Path("x/y"), "a": Path("z=1")}


@pytest.mark.parametrize("word", ["folder", "=folder", "name="])
def test_words_without_name_or_folder(word: str) -> None:
    with pytest.raises(DataError, match="expected NAME=DIR"):
        parse_named([word])


def test_a_name_given_twice() -> None:
    with pytest.raises(DataError, match="'a' is given twice"):
        parse_named(["a=x", "a=y"])
