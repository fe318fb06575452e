"""A recovery that is killed outright ends, started again, in the bytes of one that was not."""

import json
import signal
import sys
import time
from pathlib import Path

import pytest
from forked import Script, run_script

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


def finish(folder: Path) -> None:
    done = run_script(RECOVER, str(folder))
    assert done.returncode == 0, done.stderr


def result(folder: Path) -> tuple[bytes, dict[str, object]]:
    (place,) = folder.iterdir()
    assert not (place / "state.pt").exists()
    entry = json.loads((place / "history.json").read_text())
    # everything but the time it took
    del entry["history"]["seconds"]
    return (place / "weights.safetensors").read_bytes(), entry


def kill_in_the_middle(folder: Path) -> int:
    script = Script(RECOVER, str(folder))
    deadline = time.monotonic() + 240
    while not list(folder.glob("*/state.pt")):
        assert script.running, "it ended before it could be killed"
        assert time.monotonic() < deadline
        time.sleep(0.005)
    script.send(signal.SIGKILL)
    return script.wait().returncode


@pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGKILL on Windows")
def test_a_killed_recovery_goes_on_to_the_same_bytes(tmp_path: Path) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    finish(whole)
    assert kill_in_the_middle(killed) == -signal.SIGKILL
    (place,) = killed.iterdir()
    assert (place / "state.pt").exists()
    assert not (place / "history.json").exists()
    finish(killed)
    assert result(killed) == result(whole)
