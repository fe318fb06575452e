"""Memos: computed once, found again, computed by one process at a time, and damage that is named."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from medcore_prune._support.errors import ResultsError
from medcore_prune._support.files import write_text_atomic
from medcore_prune._support.memo import Ledger, Memo


def never() -> str:
    raise AssertionError("computed again")


def read(path: Path) -> str | None:
    text = path.read_text()
    if text == "damaged":
        raise ResultsError("damaged")
    return None if text == "of another" else text


def memo(path: Path, waiting_for: str = "") -> Memo[str]:
    return Memo(path, read, write_text_atomic, waiting_for)


def test_a_thing_is_computed_once(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "thing"
    assert memo(path).get() is None
    assert memo(path).get_or_make(lambda: "made") == "made"
    assert memo(path).get_or_make(never) == "made"
    assert memo(path).get() == "made"


def test_what_its_reader_refuses_is_computed_again_and_damage_is_raised(tmp_path: Path) -> None:
    (path := tmp_path / "thing").write_text("of another")
    assert memo(path).get_or_make(lambda: "made") == "made"
    assert path.read_text() == "made"
    path.write_text("damaged")
    with pytest.raises(ResultsError, match="damaged"):
        memo(path).get_or_make(never)


def test_a_computation_that_fails_leaves_nothing(tmp_path: Path) -> None:
    path = tmp_path / "thing"
    with pytest.raises(AssertionError):
        memo(path, "work").get_or_make(never)
    assert not path.exists()
    # and lets go of it
    assert memo(path, "work").get_or_make(lambda: "made") == "made"


SECOND = """
import sys
from pathlib import Path
from medcore_prune._support.memo import Memo

def never():
    raise AssertionError("computed again")

print(Memo(Path(sys.argv[1]), Path.read_text, Path.write_text, "work").get_or_make(never))
"""


def test_a_second_process_waits_for_the_first_and_takes_what_it_made(tmp_path: Path) -> None:
    path = tmp_path / "thing"
    others = []

    def slow() -> str:
        started = subprocess.Popen(
            [sys.executable, "-c", SECOND, str(path)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        others.append(started)
        assert started.stderr is not None
        assert started.stderr.readline() == f"another process is at the same work ({tmp_path}): waiting for it\n"
        return "made"

    assert memo(path, "work").get_or_make(slow) == "made"
    assert others[0].communicate(timeout=60)[0] == "made\n"


def test_a_ledger_keeps_its_entries_in_one_file(tmp_path: Path) -> None:
    path = tmp_path / "trials.json"
    ledger = Ledger(path, {"model": "m"}, "bf1")
    assert not path.exists()
    assert ledger.get_or_make("a", lambda: 0.1 + 0.2) == 0.1 + 0.2
    assert ledger.get_or_make("b", lambda: {"x": None}) == {"x": None}
    assert json.loads(path.read_text()) == {"inputs": {"model": "m"}, "bf1": {"a": 0.1 + 0.2, "b": {"x": None}}}
    again = Ledger(path, {"model": "m"}, "bf1")
    assert again.get_or_make("a", never) == 0.1 + 0.2


def test_entries_of_other_inputs_are_dropped(tmp_path: Path) -> None:
    Ledger(path := tmp_path / "trials.json", {"model": "m"}, "bf1").get_or_make("a", lambda: 1)
    assert Ledger(path, {"model": "n"}, "bf1").get_or_make("a", lambda: 2) == 2
    assert json.loads(path.read_text()) == {"inputs": {"model": "n"}, "bf1": {"a": 2}}


@pytest.mark.parametrize("content", ["", "[]", "null", "[" * 100_000, '{"inputs": {}, "bf1": []}', "\udcff"])
def test_a_damaged_ledger_is_named(tmp_path: Path, content: str) -> None:
    (path := tmp_path / "trials.json").write_bytes(content.encode(errors="surrogateescape"))
    with pytest.raises(ResultsError, match=r"trials\.json is damaged .*: delete this file and run again"):
        Ledger(path, {}, "bf1")
