"""A recovery that is killed outright ends, started again, in the bytes of one that was not."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

RECOVER = """
import sys
from tiny import tiny_sam
import medcore_prune as mp
from medcore_prune.data.splits.split import FRACTIONS
images = lambda seed, count: {"skin": mp.data.phantoms.make("phantom_skin", seed=seed, count=count, size=48)}
data = mp.data.Split(images(1, 6), images(2, 3), {}, 0, FRACTIONS)
teacher = tiny_sam()
small = mp.prune(teacher, mp.plan(teacher, "h50_m50", "magnitude", protect=1))
settings = mp.RecoverySettings(steps=16, batch_size=2, learning_rate=3e-3, validate_every=4, patience=4)
mp.RecoveryStore(sys.argv[1]).recover(small, teacher, data, settings)
"""


def start(folder: Path) -> subprocess.Popen[bytes]:
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[1]), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen([sys.executable, "-c", RECOVER, str(folder)], env=environment, stderr=subprocess.PIPE)


def finish(process: subprocess.Popen[bytes]) -> None:
    _, error = process.communicate(timeout=300)
    assert process.returncode == 0, error.decode()


def result(folder: Path) -> tuple[bytes, dict[str, object]]:
    (place,) = folder.iterdir()
    assert not (place / "state.pt").exists()
    entry = json.loads((place / "history.json").read_text())
    # everything but the time it took
    del entry["history"]["seconds"]
    return (place / "weights.safetensors").read_bytes(), entry


def kill_in_the_middle(process: subprocess.Popen[bytes], folder: Path) -> None:
    deadline = time.monotonic() + 240
    while not list(folder.glob("*/state.pt")):
        assert process.poll() is None, "it ended before it could be killed"
        assert time.monotonic() < deadline
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.communicate()


@pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGKILL on Windows")
def test_a_killed_recovery_goes_on_to_the_same_bytes(tmp_path: Path) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    finish(start(whole))
    kill_in_the_middle(process := start(killed), killed)
    assert process.returncode == -signal.SIGKILL
    (place,) = killed.iterdir()
    assert (place / "state.pt").exists()
    assert not (place / "history.json").exists()
    finish(start(killed))
    assert result(killed) == result(whole)
