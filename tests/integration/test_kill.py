import sys
from pathlib import Path

import pytest
from forked import Script, run_script
from safetensors.torch import load_file

CALIBRATE = """
import sys
from tiny import tiny_sam
import medcore_prune as mp
images = {"skin": mp.data.phantoms.make("phantom_skin", seed=7, count=12, size=48)}
mp.calibrate(tiny_sam(0), tiny_sam(1), images, samples=12, cache_dir=sys.argv[1], batch_size=1, save_every_s=0.0)
"""


def statistics_of(folder: Path) -> dict[str, dict[str, bytes]]:
    # a kill in the middle of a write leaves its temporary file, which nothing reads, behind a dot
    files = sorted(path for path in folder.rglob("*.safetensors") if not path.name.startswith("."))
    return {
        str(path.relative_to(folder)): {name: value.numpy().tobytes() for name, value in load_file(path).items()}
        for path in files
    }


@pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGKILL on Windows")
def test_two_calibrations_in_one_cache_agree(tmp_path: Path) -> None:
    alone, shared = tmp_path / "alone", tmp_path / "shared"
    assert run_script(CALIBRATE, str(alone)).returncode == 0
    both = [Script(CALIBRATE, str(shared)) for _ in range(2)]
    assert [script.wait().returncode for script in both] == [0, 0]
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
    done = run_script(CHILDREN, str(tmp_path))
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) >= 1
    assert statistics_of(tmp_path / "killed") == statistics_of(tmp_path / "whole")
