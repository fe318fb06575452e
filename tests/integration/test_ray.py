"""Jobs on a Ray cluster come to the bits of the serial run, whatever is killed or cut meanwhile."""

import os
import secrets
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from forked import run_script
from pocket_pair import write_pair

pytest.importorskip("ray")
pytestmark = [
    pytest.mark.cluster,
    pytest.mark.skipif(not sys.platform.startswith("linux"), reason="processes are found in /proc"),
]

TESTS = Path(__file__).resolve().parents[1]
BIN = Path(sys.executable).parent
# a worker or a link that is lost in the middle of a job: the script says when one is at work
CALIBRATE = """
import sys
import torch
import medcore_prune as mp
from medcore_prune._support.machines.executor import machines
from tiny import tiny_sam
torch.set_num_threads(1)
images = {name: mp.data.phantoms.make(name, seed=7, count=48, size=48) for name in ("phantom_skin", "phantom_polyp_a")}
with machines(sys.argv[2] if len(sys.argv) > 2 else None):
    mp.calibrate(tiny_sam(0), tiny_sam(1), images, samples=48, cache_dir=sys.argv[1], batch_size=1, progress=False)
"""
TOKEN = secrets.token_hex(32)
"""Without one and the same, Ray's nodes refuse each other."""
IMPATIENT = {
    "RAY_health_check_initial_delay_ms": "0",
    "RAY_health_check_period_ms": "500",
    "RAY_health_check_timeout_ms": "1000",
    "RAY_health_check_failure_threshold": "3",
}
"""Ray's own patience with a machine that does not answer is half a minute."""


def environment() -> dict[str, str]:
    return {
        **os.environ,
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": str(TESTS),
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": TOKEN,
        "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
        **IMPATIENT,
    }


def calibrate(*arguments: str, within: tuple[str, ...] = ()) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [*within, sys.executable, "-c", CALIBRATE, *arguments],
        env=environment(),
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process: subprocess.Popen[str]) -> None:
    _, said = process.communicate(timeout=400)
    assert process.returncode == 0, said


def contents(folder: Path, *suffixes: str) -> dict[str, bytes]:
    paths = (path for path in folder.rglob("*") if path.suffix in suffixes and not path.name.startswith("."))
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths}


def parents() -> dict[int, int]:
    found = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            found[int(stat.parent.name)] = int(stat.read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue
    return found


def at_work(*above: int) -> list[int]:
    """Workers within a job that come from these processes."""
    tree, found = parents(), []
    for pid in tree:
        line, place = [pid], pid
        while (place := tree.get(place, 0)) > 1:
            line.append(place)
        try:
            words = Path(f"/proc/{pid}/cmdline").read_bytes()
        except OSError:
            continue
        if words.startswith(b"ray::_work") and set(above) & set(line):
            found.append(pid)
    return found


def wait_for_work(*above: int) -> int:
    until = time.monotonic() + 60
    while time.monotonic() < until:
        if found := at_work(*above):
            return found[0]
        time.sleep(0.02)
    raise AssertionError("no worker began")


@pytest.fixture(scope="module")
def serial(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    place = tmp_path_factory.mktemp("serial")
    done = run_script(CALIBRATE, str(place), environment=environment())
    assert done.returncode == 0, done.stderr
    found = contents(place, ".safetensors")
    assert len(found) == 5
    return found


def test_a_killed_worker_changes_no_bit(serial: dict[str, bytes], tmp_path: Path) -> None:
    process = calibrate(str(tmp_path), "auto")
    worker = wait_for_work(process.pid)
    time.sleep(0.2)
    os.kill(worker, signal.SIGKILL)
    finish(process)
    assert contents(tmp_path, ".safetensors") == serial


def ray(*words: str, within: tuple[str, ...] = ()) -> subprocess.Popen[bytes]:
    command = [*within, str(BIN / "ray"), "start", *words, "--block", "--disable-usage-stats"]
    return subprocess.Popen(
        [*command, "--object-store-memory=100000000"],
        env=environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )


def wait_for_nodes(count: int, place: Path) -> None:
    """Until so many nodes listen: machines of a test share the folder of their sockets."""
    until = time.monotonic() + 60
    while len(list(place.glob("session_latest/sockets/raylet*"))) < count:
        assert time.monotonic() < until, "a node did not begin"
        time.sleep(0.02)


@pytest.fixture
def two_machines() -> Iterator[tuple[tuple[str, ...], tuple[str, ...]]]:
    """Two network namespaces with one link between them, 10.77.0.1 and 10.77.0.2."""
    names = [f"mcp{os.getpid()}{end}" for end in "ab"]
    within = [("ip", "netns", "exec", name) for name in names]
    if not shutil.which("ip") or subprocess.run(["ip", "netns", "add", names[0]], capture_output=True).returncode:
        pytest.skip("network namespaces need ip(8) and root")
    subprocess.run(["ip", "netns", "add", names[1]], check=True)
    try:
        ends = ["ip", "link", "add", "end", "netns", names[0], "type", "veth", "peer", "name", "end", "netns", names[1]]
        if subprocess.run(ends, capture_output=True).returncode:
            pytest.skip("no pairs of virtual links here")
        for number, inside in enumerate(within, 1):
            for words in (f"addr add 10.77.0.{number}/24 dev end", "link set end up", "link set lo up"):
                subprocess.run([*inside, "ip", *words.split()], check=True)
        yield within[0], within[1]
    finally:
        for name in names:
            subprocess.run(["ip", "netns", "del", name], check=True)


def stop(process: subprocess.Popen[bytes]) -> None:
    """End a node with all that it began."""
    tree, pids = parents(), {process.pid}
    while more := {pid for pid, above in tree.items() if above in pids} - pids:
        pids |= more
    for pid in pids:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue
    process.wait(timeout=120)


def test_a_lost_machine_changes_no_bit(
    serial: dict[str, bytes], tmp_path: Path, two_machines: tuple[tuple[str, ...], tuple[str, ...]]
) -> None:
    here, there = two_machines
    # short names: Ray's sockets lie within
    place = Path("/tmp") / f"mcp{os.getpid()}"
    words = "--head --node-ip-address=10.77.0.1 --port=6399 --num-cpus=1 --include-dashboard=false"
    head = ray(*words.split(), f"--temp-dir={place}", within=here)
    nodes, process = [head], None
    try:
        wait_for_nodes(1, place)
        nodes.append(ray("--address=10.77.0.1:6399", "--node-ip-address=10.77.0.2", "--num-cpus=1", within=there))
        wait_for_nodes(2, place)
        process = calibrate(str(tmp_path), "10.77.0.1:6399", within=here)
        wait_for_work(nodes[1].pid)
        stop(nodes[1])
        _, said = process.communicate(timeout=300)
        assert process.returncode == 0, said
    finally:
        if process is not None and process.poll() is None:
            process.kill()
        for node in nodes:
            stop(node)
        shutil.rmtree(place, ignore_errors=True)
    assert contents(tmp_path, ".safetensors") == serial


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Options that name an adapted model and its reference."""
    return write_pair(tmp_path_factory.mktemp("pair"))


BASELINES = "baselines --quick --methods magnitude,taylor --levels h50_m70 --no-gallery"
FEW = ["--set", "images=2", "--set", "calibration=2", "--set", "eval_size=32"]


def bench(words: str, pair: list[str], out: Path, *more: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [str(BIN / "medcore-bench"), *words.split(), *pair, *FEW, "--out", str(out), *more],
        env=environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )


def bench_here(words: str, pair: list[str], out: Path) -> None:
    """The same without machines, and without another import of torch."""
    code = "import torch; torch.set_num_threads(1); from medcore_prune.benchmarks.cli import main; main()"
    done = run_script(code, *words.split(), *pair, *FEW, "--out", str(out), environment=environment())
    assert done.returncode == 0, done.stderr


def test_a_killed_command_goes_on_to_the_bits_of_the_serial_one(pair: list[str], tmp_path: Path) -> None:
    bench_here(BASELINES, pair, tmp_path / "serial")
    killed = bench(BASELINES, pair, tmp_path / "ray", "--ray", "auto")
    until = time.monotonic() + 60
    while not list((tmp_path / "ray" / "cells" / "own").glob("**/*.json")) and time.monotonic() < until:
        time.sleep(0.02)
    killed.kill()
    killed.communicate()
    assert killed.returncode == -signal.SIGKILL
    finish(bench(BASELINES, pair, tmp_path / "ray", "--ray", "auto"))
    # what JSON files hold besides are seconds
    found, expected = (contents(tmp_path / name, ".safetensors", ".csv") for name in ("ray", "serial"))
    assert found == expected
    assert len(expected) > 20


def test_recoveries_elsewhere_come_to_the_bits_of_the_serial_ones(pair: list[str], tmp_path: Path) -> None:
    words = "main --quick --one-time h50_m70 --no-sequential --steps 1 --set starts=corrected --set schedule=one-shot"
    bench_here(words, pair, tmp_path / "serial" / "main")
    finish(bench(words, pair, tmp_path / "ray" / "main", "--ray", "auto"))
    found, expected = (contents(tmp_path / name / "main", ".csv") for name in ("ray", "serial"))
    assert found == expected
    assert len(expected) > 10
    # whoever asks writes results alone
    assert not list((tmp_path / "ray").glob("**/recoveries/*"))
