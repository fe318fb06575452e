"""Commands killed outright between and behind their renames: the same command goes on, or says that it is done."""

import subprocess
import sys
from pathlib import Path

import pytest
from forked import run_script

from medcore_prune._support.temporary import remove_unfinished

CHILDREN = """
import os, shutil, signal, sys, traceback
from pathlib import Path
from tiny import tiny_sam
import medcore_prune as mp
from medcore_prune._support import files
from medcore_prune.commands import group
from medcore_prune.commands.cli import cli

name, place = sys.argv[1], Path(sys.argv[2])
os.chdir(place)
os.environ["MEDCORE_PRUNE_CACHE"] = str(place / "cache")
cli(["phantoms", "--count", "10", "--size", "48", "--out", "set"], standalone_mode=False)
mp.save(tiny_sam(), "model.safetensors")
data = ["--data", "own=set"]
trained = [*data, "--steps", "1", "--validate-every", "0"]
COMMANDS = {
    "adapt": ["adapt", "model.safetensors", *data, "--steps", "1", "--out", "adapted.pth"],
    "prune": ["prune", "model.safetensors", *data, "--method", "magnitude", "--plan-out", "plan.json",
              "--out", "small.safetensors"],
    "recover": ["recover", "model.safetensors", "--teacher", "model.safetensors", *trained, "--out", "r.safetensors"],
    "evaluate": ["evaluate", "model.safetensors", *data, "--eval-size", "32", "--out", "tables"],
    "predict": ["predict", "model.safetensors", "set/images", "--boxes", "set/boxes.csv", "--out", "masks"],
    "export": ["export", "model.safetensors", *data, "--out", "onnx"],
}
OTHER = {
    "adapt": ["--seed", "5"], "prune": ["--level", "h10_m10"], "recover": ["--seed", "5"],
    "evaluate": ["--tolerance", "1"], "predict": ["--no-overlay"], "export": ["--exporter", "dynamo"],
}
RESULTS = {"adapt": "adapted.pth", "prune": "plan.json", "recover": "r.safetensors", "evaluate": "tables/summary.md",
           "predict": "masks/s0_000000_mask.png", "export": "onnx/encoder.onnx"}


def child(words, kill_at=0, before=False):
    # the renames of results; a state that is kept meanwhile is none
    if pid := os.fork():
        return os.waitpid(pid, 0)[1]
    renames = [0]
    rename = files._rename

    def counted(temporary, target):
        if ".state" in target.name:
            return rename(temporary, target)
        renames[0] += 1
        if before and renames[0] == kill_at:
            os.kill(os.getpid(), signal.SIGKILL)
        rename(temporary, target)
        if renames[0] == kill_at:
            os.kill(os.getpid(), signal.SIGKILL)

    files._rename = counted
    sys.stdout.flush()
    try:
        cli(words, standalone_mode=False)
    except files.WriteError as error:
        print(error, flush=True)
        os._exit(1)
    except BaseException:
        traceback.print_exc()
        os._exit(99)
    sys.stdout.flush()
    Path("renames").write_text(str(renames[0]))
    os._exit(0)


words = COMMANDS[name]
assert child(words) == 0
last = int(Path("renames").read_text())
def clear():
    for path in place.iterdir():
        if path.name.lstrip(".").split(".")[0] in ("adapted", "small", "plan", "r", "tables", "masks", "onnx"):
            shutil.rmtree(path) if path.is_dir() else path.unlink()


for kill_at in sorted({1, last}):
    for before in (True, False):
        clear()
        print(f"kill {kill_at} of {last}", flush=True)
        assert child(words, kill_at, before) == signal.SIGKILL
        assert child(words) == 0
        if kill_at == last and not before:
            assert Path("renames").read_text() == "0", "it is done again"
        unfinished = [p for p in place.rglob(".*.writing-*")]
        assert not unfinished, unfinished
        assert not list(place.glob(".*.lock")), list(place.iterdir())
        assert not list(place.glob("*.state.pt"))
# done, and known; another command is refused, and so is this one where a result was changed
assert child(words) == 0 and Path("renames").read_text() == "0"
if name != "export":
    assert child([*words, *OTHER[name]]) == 256
Path(RESULTS[name]).write_bytes(b"mine")
assert child(words) == 256
assert Path(RESULTS[name]).read_bytes() == b"mine"
"""


@pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGKILL on Windows")
@pytest.mark.parametrize("command", ["adapt", "prune", "recover", "evaluate", "predict", "export"])
def test_a_command_killed_at_its_last_moments_goes_on(tmp_path: Path, command: str) -> None:
    if command == "export":
        pytest.importorskip("onnxruntime")
    done = run_script(CHILDREN, command, str(tmp_path))
    assert done.returncode == 0, done.stdout + done.stderr


WRITERS = """
import os, signal, sys, time
from pathlib import Path
from medcore_prune._support.files import atomic_write

place = Path(sys.argv[1])
with atomic_write(place / "x.json") as temporary:
    temporary.write_text("half")
    print(temporary, flush=True)
    sys.stdin.read()
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="what is open cannot be removed on Windows")
def test_temporary_files_of_dead_writers_go_and_those_of_living_ones_stay(tmp_path: Path) -> None:
    foreign = tmp_path / ".x.writing-notes.json"
    foreign.write_text("mine")
    writer = subprocess.Popen(
        [sys.executable, "-c", WRITERS, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert writer.stdout is not None
    assert writer.stdin is not None
    temporary = Path(writer.stdout.readline().strip())
    remove_unfinished(tmp_path)
    assert temporary.read_text() == "half"
    writer.stdin.close()
    writer.wait()
    assert temporary.exists()
    remove_unfinished(tmp_path)
    assert list(tmp_path.iterdir()) == [foreign]
