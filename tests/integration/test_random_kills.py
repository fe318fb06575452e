"""Recoveries and comparisons killed outright at random moments, again and again: they end where undisturbed ones do.

More kills: `MEDCORE_PRUNE_KILLS=100 pytest tests/integration/test_random_kills.py`.
"""

import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest
from forked import run_script

from medcore_prune.benchmarks.runner.store import ResultStore

KILLS = int(os.environ.get("MEDCORE_PRUNE_KILLS", "10"))

# Children of one process, which has imported everything. It computes no gradient, which torch would not allow its
# children after that. A kill counts when the work was not done yet.
CHILDREN = """
import os, random, signal, sys, time, traceback
from pathlib import Path
from pocket_pair import write_pair
from tiny import tiny_sam
import medcore_prune as mp
from medcore_prune.benchmarks.experiments import baselines
from medcore_prune.benchmarks.cli import cli
from medcore_prune.commands.cli import cli as medcore_prune
from medcore_prune.data.splits.split import FRACTIONS

place, kind, kills = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
lots = random.Random(kind)
pair = write_pair(place)
teacher = tiny_sam()
small = mp.prune(teacher, mp.plan(teacher, "h50_m50", "magnitude", protect=1))


def drawn(seed, count):
    return {"skin": mp.data.phantoms.make("phantom_skin", seed=seed, count=count, size=48)}


def recover(folder):
    settings = mp.RecoverySettings(steps=12, batch_size=2, learning_rate=3e-3, validate_every=2)
    data = mp.data.Split(drawn(1, 6), drawn(2, 3), {}, 0, FRACTIONS)
    mp.RecoveryStore(folder).recover(small, teacher, data, settings, progress=False)


medcore_prune(["phantoms", "--count", "12", "--size", "48", "--out", str(place / "set")], standalone_mode=False)


def compare(folder):
    few = ["--set", "images=1", "--set", "calibration=1", "--set", "eval_size=32"]
    cli(["baselines", *pair, "--data", f"own={place / 'set'}", "--quick", *few, "--levels", "h50_m70", "--methods",
         "random,magnitude", "--no-gallery", "--no-correct", "--out", str(folder)], standalone_mode=False)


def child(folder):
    if pid := os.fork():
        return pid
    try:
        {"recover": recover, "compare": compare}[kind](place / folder)
    except BaseException:
        traceback.print_exc()
        os._exit(1)
    os._exit(0)


start = time.monotonic()
assert os.waitpid(child("whole"), 0)[1] == 0
whole_s = time.monotonic() - start
done = 0
for number in range(kills):
    pid = child("killed")
    time.sleep(lots.uniform(0, 0.4 * whole_s))
    os.kill(pid, signal.SIGKILL)
    status = os.waitpid(pid, 0)[1]
    assert os.WIFSIGNALED(status) or status == 0, status
    done += os.WIFSIGNALED(status)
assert os.waitpid(child("killed"), 0)[1] == 0
print(done)
"""


def killed_again_and_again(place: Path, kind: str) -> None:
    done = run_script(CHILDREN, str(place), kind, str(KILLS))
    assert done.returncode == 0, done.stderr
    # most kills come in the middle of the work, some after it was done
    assert int(done.stdout.splitlines()[-1]) >= KILLS // 2


def recovered(folder: Path) -> tuple[bytes, Any]:
    (place,) = folder.iterdir()
    assert not (place / "state.pt").exists()
    entry = json.loads((place / "history.json").read_text())
    # everything but the time it took
    del entry["history"]["seconds"]
    return (place / "weights.safetensors").read_bytes(), entry


def compared(folder: Path) -> tuple[str, dict[str, Any]]:
    cells = {str(c.cell.path): (c.metrics, c.empty, c.plan, c.cost) for c in ResultStore.open(folder).cells()}
    return (folder / "comparison.csv").read_text(), cells


@pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGKILL on Windows")
def test_recoveries_killed_at_random_moments_end_in_the_same_bytes(tmp_path: Path) -> None:
    killed_again_and_again(tmp_path, "recover")
    assert recovered(tmp_path / "killed") == recovered(tmp_path / "whole")


@pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGKILL on Windows")
def test_comparisons_killed_at_random_moments_end_in_the_same_table(tmp_path: Path) -> None:
    killed_again_and_again(tmp_path, "compare")
    assert compared(tmp_path / "killed") == compared(tmp_path / "whole")
