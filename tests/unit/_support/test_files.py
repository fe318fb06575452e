"""Files are written whole or not at all: a full disk, and folders that cannot be written to."""

import json
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from medcore_prune._support.errors import MedcorePruneError, WriteError
from medcore_prune._support.files import atomic_write, together, write_json_atomic, write_text_atomic

# a limit on the size of files stands for a full disk: the same calls fail, in the same way but for the number
FULL = """
import json, resource, sys
from pathlib import Path
import torch
from tiny import tiny_sam
from tiny_samples import TinySamples
import medcore_prune as mp
from medcore_prune.checkpoints.sam import save_training_checkpoint

place = Path(sys.argv[1])
model = tiny_sam()
plan = mp.make_plan(model, "h50_m70")
small, images = mp.prune(model, plan), {"a": TinySamples("a", 12)}
writers = {
    "small.safetensors": lambda path: mp.save(small, path),
    "plan.json": plan.save,
    "model.pth": lambda path: save_training_checkpoint(path, model),
    "split.json": mp.data.split(images).save,
    "cache": lambda path: mp.calibrate(model, data=images, samples=2, cache_dir=path, progress=False).save(path / "x"),
}
for name in ("small.safetensors", "plan.json", "model.pth", "split.json"):
    writers[name](place / name)
before = {path.name: path.read_bytes() for path in place.iterdir()}
resource.setrlimit(resource.RLIMIT_FSIZE, (400, 400))
said = {}
for name, write in writers.items():
    try:
        write(place / name)
    except mp.MedcorePruneError as error:
        said[name] = str(error)
kept = all((place / name).read_bytes() == content for name, content in before.items())
print(json.dumps({"said": said, "kept": kept, "files": sorted(str(p) for p in place.rglob("*") if p.is_file())}))
"""


@pytest.mark.skipif(sys.platform == "win32", reason="no limit on the size of files")
def test_a_full_disk_is_said_and_what_was_there_is_kept(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", FULL, str(tmp_path)],
        cwd=Path(__file__).resolve().parents[2],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert set(found["said"]) == {"small.safetensors", "plan.json", "model.pth", "split.json", "cache"}
    for name, message in found["said"].items():
        assert name in message
        assert "cannot be written" in message
        assert "\n" not in message
    assert found["kept"]
    assert [Path(path).name for path in found["files"]] == ["model.pth", "plan.json", "small.safetensors", "split.json"]


def test_a_folder_that_is_a_file_is_said(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("a file")
    with pytest.raises(WriteError, match=r"taken.plan\.json cannot be written: "):
        write_json_atomic(tmp_path / "taken" / "plan.json", {})
    assert (tmp_path / "taken").read_text() == "a file"


def test_errors_of_the_caller_pass_and_leave_nothing(tmp_path: Path) -> None:
    (target := tmp_path / "kept.json").write_text("before")

    def half(error: BaseException) -> None:
        with atomic_write(target) as temporary:
            temporary.write_text("half")
            raise error

    for error in (RuntimeError("its own"), MedcorePruneError("its own"), KeyboardInterrupt()):
        with pytest.raises(type(error)):
            half(error)
    assert target.read_text() == "before"
    assert list(tmp_path.iterdir()) == [target]


def test_together_all_are_replaced_or_none(tmp_path: Path) -> None:
    first, second = tmp_path / "a.json", tmp_path / "b.txt"
    first.write_text("old")

    def written(value: float) -> None:
        with together():
            write_text_atomic(second, "new")
            assert not second.exists()
            write_json_atomic(first, value)
            assert first.read_text() == "old"

    with pytest.raises(ValueError, match="not JSON compliant"):
        written(float("nan"))
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"a.json": "old"}
    written(1.0)
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"a.json": "1.0\n", "b.txt": "new"}
    # outside of the block nothing waits
    write_text_atomic(second, "newer")
    assert second.read_text() == "newer"


def test_together_in_one_thread_leaves_others_alone(tmp_path: Path) -> None:
    with together():
        thread = threading.Thread(target=write_text_atomic, args=(tmp_path / "other", "now"))
        thread.start()
        thread.join()
        assert (tmp_path / "other").read_text() == "now"
