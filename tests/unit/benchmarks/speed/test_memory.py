"""Images are written as different files, read in a program of its own, and its peak is told beside what inputs take."""

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from medcore_prune.benchmarks.speed import memory
from medcore_prune.benchmarks.speed.memory import command, measure, peaks, write_images
from medcore_prune.data.folders.folder import FolderSet, folder


@pytest.fixture
def samples(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FolderSet:
    monkeypatch.setattr(memory, "_DRAWN", 2)
    write_images(tmp_path, range(4), 32)
    write_images(tmp_path, range(4, 6), 32)
    return folder(tmp_path)


def test_no_image_is_another_one(samples: FolderSet) -> None:
    assert list(samples.ids) == [f"{number:06d}" for number in range(6)]
    assert len(set(samples.image_hashes())) == 6
    assert len({sample.mask.tobytes() for sample in samples}) == 6
    assert all(sample.image.shape == (32, 32, 3) and sample.mask.any() for sample in samples)


def test_all_are_read_and_some_again(samples: FolderSet, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = list[int]()

    class Watched(FolderSet):
        def __getitem__(self, index: int):  # type: ignore[no-untyped-def]
            seen.append(index)
            return super().__getitem__(index)

    monkeypatch.setattr(memory, "folder", lambda _: Watched("watched", samples.root, samples.entries))
    monkeypatch.setattr(memory, "KEPT_BYTES", 0)
    monkeypatch.setattr(memory, "BATCH", 2)
    monkeypatch.setattr(memory, "_AGAIN", 2)
    opened, peak = peaks(samples.root, 32, 1)
    assert 0 < opened <= peak
    assert sorted(seen[:6]) == list(range(6))
    assert {0, 1} <= set(seen[6:])


def test_what_is_told(samples: FolderSet, monkeypatch: pytest.MonkeyPatch) -> None:
    told = iter([(100_000_000, 150_000_000), (101_000_000, 152_000_000)])

    class Here:
        """What a program of its own would answer."""

        def __init__(self, *_: object) -> None: ...
        def __enter__(self) -> "Here":
            return self

        def __exit__(self, *_: object) -> None: ...
        def submit(self, work: object, place: Path, *_: object) -> "Here":
            assert work is peaks
            written.append(len(list((place / "images").iterdir())))
            return self

        def result(self) -> tuple[int, int]:
            return next(told)

    written: list[int] = []
    monkeypatch.setattr(memory, "ProcessPoolExecutor", Here)
    found = measure(32, (4, 8))
    assert written == found["counts"] == [4, 8]
    assert (found["opened_mb"], found["peaks_mb"], found["kb_an_image"]) == ([100.0, 101.0], [150.0, 152.0], 500.0)
    assert found["inputs_mb"] == pytest.approx([4 * 12 * 32**2 / 1e6, 8 * 12 * 32**2 / 1e6], abs=0.05)


def test_the_command_reads_in_a_program_of_its_own(tmp_path: Path) -> None:
    out = tmp_path / "memory.json"
    words = ["--size", "32", "--counts", "10,4", "--out", str(out)]
    result = CliRunner().invoke(command, words, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    found = json.loads(out.read_text())
    assert (found["script"], found["size"], found["counts"]) == ("memory", 32, [4, 10])
    # torch alone takes more
    assert all(peak > 100 for peak in found["peaks_mb"])
    assert np.all(np.array(found["peaks_mb"]) >= found["opened_mb"])
