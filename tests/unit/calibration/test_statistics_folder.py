"""Statistics in a folder are whole or refused, whatever a kill or a copy left of them."""

import shutil
import signal
import sys
from pathlib import Path

import pytest
import torch
from forked import run_script

from medcore_prune._support.errors import StatisticsError, WriteError
from medcore_prune.calibration.statistics import Statistics
from medcore_prune.calibration.storage import INDEX, Header, MemoryPart, write_part

KINDS = ("fisher", "gradient", "gram")


def statistics(value: float = 1.0) -> Statistics:
    samples = (("1.png", "ab"), ("2.png", "cd"))
    return Statistics(
        MemoryPart(Header(kind, "adapted", "a", samples), {"total/x": torch.full((3,), value)}) for kind in KINDS
    )


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    statistics().save(tmp_path / "saved")
    return tmp_path / "saved"


def refused(folder: Path, says: str) -> None:
    with pytest.raises(StatisticsError, match=says) as caught:
        Statistics.load(folder)
    assert "\n" not in str(caught.value)
    assert str(folder) in str(caught.value)


def test_the_parts_come_back_in_order(saved: Path) -> None:
    loaded = Statistics.load(str(saved))
    assert [part.header.kind for part in loaded.parts] == list(KINDS)
    assert all(torch.equal(part.tensor("total/x"), torch.ones(3)) for part in loaded.parts)
    assert sorted(path.name for path in saved.iterdir())[-1] == INDEX


@pytest.mark.parametrize("gone", ["0000-fisher-adapted-a", "0002-gram-adapted-a"])
def test_a_folder_with_a_file_missing_is_refused(saved: Path, gone: str) -> None:
    (saved / f"{gone}.safetensors").unlink()
    refused(saved, rf"{gone}\.safetensors is missing: copy the whole folder again, or save anew")


def test_all_that_is_missing_is_counted(saved: Path) -> None:
    for path in saved.glob("*.safetensors"):
        path.unlink()
    refused(saved, r"0000-fisher-adapted-a\.safetensors and 2 more are missing")


def test_a_folder_without_its_index_is_refused(saved: Path) -> None:
    (saved / INDEX).unlink()
    refused(saved, r"there is no index\.json.*save or copy it again; what lies in a cache is opened by calibrate")
    with pytest.raises(
        StatisticsError, match=r"holds 3 \.safetensors files and no index\.json.*remove them, or choose"
    ):
        statistics().save(saved)
    for path in saved.glob("*.safetensors"):
        path.unlink()
    refused(saved, "no statistics here")
    statistics().save(saved)
    Statistics.load(saved)


def test_a_file_that_does_not_belong_is_refused(saved: Path) -> None:
    shutil.copy(saved / "0001-gradient-adapted-a.safetensors", saved / "more.safetensors")
    refused(saved, r"more\.safetensors is not of these statistics: move the others elsewhere")


def test_a_file_of_another_save_is_refused(saved: Path, tmp_path: Path) -> None:
    statistics(2.0).save(tmp_path / "other")
    for path in (tmp_path / "other").glob("0001*"):
        shutil.copy(path, saved)
    refused(saved, r"0001-gradient-adapted-a\.safetensors: another file than the one that was saved")


def test_temporary_files_of_a_killed_writer_are_passed_over(saved: Path) -> None:
    shutil.copy(saved / "0001-gradient-adapted-a.safetensors", saved / ".0001-gradient-adapted-a-x1.safetensors")
    (saved / ".0002-gram-x2.safetensors").write_bytes(b"half")
    assert len(Statistics.load(saved).parts) == len(KINDS)


@pytest.mark.parametrize(
    "content",
    ["", "[]", "{}", "null", '{"format": 2, "files": {}}', '{"format": 1, "files": []}', '{"format": 1}', "[" * 10**5],
)
def test_an_index_of_anything_is_refused(saved: Path, content: str) -> None:
    (saved / INDEX).write_text(content)
    refused(saved, r"index\.json: no index of statistics .*: copy the folder again, or save anew")


def test_a_calibration_that_has_not_finished_is_refused(tmp_path: Path) -> None:
    write_part(tmp_path / "part.safetensors", Header("fisher", "adapted", "a"), {"a": torch.ones(2)}, progress=1)
    refused(tmp_path, r"there is no index\.json")


def test_a_save_that_fails_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise WriteError("x cannot be written: No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr("medcore_prune.calibration.storage.write_json_atomic", full)
        with pytest.raises(WriteError, match="No space left"):
            statistics().save(tmp_path / "saved")
    assert not list((tmp_path / "saved").iterdir())
    statistics().save(tmp_path / "saved")


KILLED = """
import os, signal, sys
import medcore_prune.calibration.storage as file
from test_statistics_folder import statistics

save_file, calls = file.save_file, []

def killing(tensors, path, metadata):
    save_file(tensors, path, metadata=metadata)
    calls.append(path)
    if len(calls) == int(sys.argv[2]):
        os.kill(os.getpid(), signal.SIGKILL)

file.save_file = killing
statistics().save(sys.argv[1])
"""


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGKILL")
@pytest.mark.parametrize("at", [1, 2, 3])
def test_a_save_that_is_killed_is_not_taken_for_a_whole_one(tmp_path: Path, at: int) -> None:
    folder = tmp_path / "saved"
    done = run_script(KILLED, str(folder), str(at), cwd=Path(__file__).parent)
    assert done.returncode == -signal.SIGKILL, done.stderr
    # the file that was being written is hidden
    assert len([path for path in folder.iterdir() if path.name.startswith(".")]) == 1
    refused(folder, "no statistics here" if at == 1 else r"there is no index\.json")
    for path in folder.glob("[0-9]*.safetensors"):
        path.unlink()
    statistics().save(folder)
    assert len(Statistics.load(folder).parts) == len(KINDS)
