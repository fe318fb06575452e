import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from safetensors.torch import load_file

CALIBRATE = """
import sys
from tiny import tiny_sam
import medcore_prune as mp
images = {"skin": mp.data.phantoms.make("phantom_skin", seed=7, count=12, size=48)}
mp.calibrate(tiny_sam(0), tiny_sam(1), images, samples=12, cache_dir=sys.argv[1], batch_size=1, save_every_s=0.0)
"""

COMPARE = """
import sys
from medcore_prune.benchmarks.cli import cli
cli(["baselines", "--methods", "random,magnitude", "--levels", "h50_m70,h84_m95", "--images", "2", "--no-gallery",
     "--out", sys.argv[1]])
"""


def start(code: str, *arguments: str) -> subprocess.Popen[bytes]:
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[1]), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [sys.executable, "-c", code, *arguments], env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )


def kill_when(process: subprocess.Popen[bytes], ready: Callable[[], bool]) -> None:
    """Kill -9 as soon as `ready`, which must come before the process ends by itself."""
    deadline = time.monotonic() + 120
    while not ready():
        assert process.poll() is None, "it ended before it could be killed"
        assert time.monotonic() < deadline
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait()


def statistics_of(folder: Path) -> dict[str, dict[str, bytes]]:
    # a kill in the middle of a write leaves its temporary file, which nothing reads, behind a dot
    files = sorted(path for path in folder.rglob("*.safetensors") if not path.name.startswith("."))
    return {
        str(path.relative_to(folder)): {name: value.numpy().tobytes() for name, value in load_file(path).items()}
        for path in files
    }


@pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGKILL on Windows")
def test_a_killed_calibration_goes_on_to_the_same_bytes(tmp_path: Path) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    assert start(CALIBRATE, str(whole)).wait() == 0
    kill_when(start(CALIBRATE, str(killed)), lambda: any(killed.rglob("partial-*")))
    assert any(killed.rglob("partial-*"))
    assert start(CALIBRATE, str(killed)).wait() == 0
    assert statistics_of(killed) == statistics_of(whole)
    assert statistics_of(whole)


@pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGKILL on Windows")
def test_a_killed_comparison_goes_on_to_the_same_table(tmp_path: Path) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    assert start(COMPARE, str(whole)).wait() == 0
    kill_when(start(COMPARE, str(killed)), lambda: sum(1 for _ in (killed / "cells").rglob("*.json")) >= 12)
    assert not (killed / "comparison.csv").exists()
    stored = {path: path.stat().st_mtime_ns for path in (killed / "evaluations").iterdir()}
    assert start(COMPARE, str(killed)).wait() == 0
    assert (killed / "comparison.csv").read_text() == (whole / "comparison.csv").read_text()
    # what had been evaluated was not evaluated again
    assert stored
    assert all(path.stat().st_mtime_ns == before for path, before in stored.items())


@pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGKILL on Windows")
def test_two_calibrations_in_one_cache_agree(tmp_path: Path) -> None:
    alone, shared = tmp_path / "alone", tmp_path / "shared"
    assert start(CALIBRATE, str(alone)).wait() == 0
    both = [start(CALIBRATE, str(shared)) for _ in range(2)]
    assert [process.wait() for process in both] == [0, 0]
    assert statistics_of(shared) == statistics_of(alone)


# children of one process, which has imported everything: a kill costs milliseconds. The parent computes no gradient,
# which torch would not allow its children after that.
CHILDREN = """
import os, random, signal, sys, time
from pathlib import Path
from tiny import tiny_sam
import medcore_prune as mp

place, lots = Path(sys.argv[1]), random.Random(0)
model = tiny_sam()
plans = [mp.make_plan(model, level) for level in ("h50_m70", "h25_m30")]
models = [mp.prune(model, plan) for plan in plans]
images = {"skin": mp.data.phantoms.make("phantom_skin", seed=7, count=12, size=48)}


def child(work):
    pid = os.fork()
    if not pid:
        try:
            work()
        except BaseException as error:
            print(repr(error), file=sys.stderr, flush=True)
            os._exit(1)
        os._exit(0)
    return pid


def killed(work, longest_s):
    pid = child(work)
    time.sleep(lots.uniform(0, longest_s))
    os.kill(pid, signal.SIGKILL)
    status = os.waitpid(pid, 0)[1]
    assert os.WIFSIGNALED(status) or status == 0, status
    return os.WIFSIGNALED(status)


def write():
    while True:
        for plan, small in zip(plans, models):
            plan.save(place / "plan.json")
            mp.save(small, place / "small.safetensors")


def calibrate(folder):
    mp.calibrate(tiny_sam(0), tiny_sam(1), images, samples=12, cache_dir=place / folder, batch_size=1,
                 save_every_s=0.0, progress=False)


plans[0].save(place / "plan.json")
mp.save(models[0], place / "small.safetensors")
sizes = {mp.count(small).params for small in models}
for _ in range(50):
    assert killed(write, 0.05)
    assert mp.Plan.load(place / "plan.json") in plans
    assert mp.count(mp.load(place / "small.safetensors")).params in sizes
kills = 0
assert os.waitpid(child(lambda: calibrate("whole")), 0)[1] == 0
for _ in range(20):
    kills += killed(lambda: calibrate("killed"), 0.4)
assert os.waitpid(child(lambda: calibrate("killed")), 0)[1] == 0
print(kills)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGKILL on Windows")
def test_fifty_kills_at_any_moment_lose_nothing(tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[1]), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", CHILDREN, str(tmp_path)], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) >= 1
    assert statistics_of(tmp_path / "killed") == statistics_of(tmp_path / "whole")
