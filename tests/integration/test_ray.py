"""Jobs on a Ray cluster come to the bits of the serial run, whatever is killed or cut meanwhile."""

import json
import os
import re
import secrets
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from forked import run_script
from pocket_pair import SIZE, write_pair, write_training
from safetensors.torch import load_file

import medcore_prune as mp
from medcore_prune.checkpoints.pruned import read_header

pytest.importorskip("ray")
pytestmark = [
    pytest.mark.cluster,
    pytest.mark.skipif(not sys.platform.startswith("linux"), reason="processes are found in /proc"),
]

TESTS = Path(__file__).resolve().parents[1]
PATIENCE_S = 300.0
"""How long anything may take, on a machine that does other work."""
BIN = Path(sys.executable).parent
# a worker or a link that is lost in the middle of a job: the test sees when one is at work
JOBS = """
import sys
from pathlib import Path
import medcore_prune as mp
from medcore_prune._support.machines.executor import machines
from medcore_prune.calibration import job
from tiny import tiny_sam
# three cells of each set and model; here alone, since a cell that travels is whole
job.CELL = 12
place, address = Path(sys.argv[1]), *(sys.argv[2:] or [None])
images = {name: mp.data.phantoms.make(name, seed=7, count=32, size=48) for name in ("phantom_skin", "phantom_polyp_a")}
with machines(address):
    told = {"cache_dir": place, "progress": False}
    mp.calibrate(tiny_sam(0), tiny_sam(1), images, samples=32, batch_size=1, **told)
    told |= {"generations": 2, "candidates": 4, "samples": 4, "images": 4}
    plan = mp.searched_plan(tiny_sam(0), "h50_m70", "magnitude", data=images, **told)
    plan.save(place / "plan.json")
"""
# ends once both nodes are known
ARRIVED = """
import sys, time, ray
ray.init(sys.argv[1], logging_level="error")
while sum(node["Alive"] for node in ray.nodes()) < 2:
    time.sleep(0.1)
"""
TOKEN = secrets.token_hex(32)
"""Without one and the same, Ray's nodes refuse each other."""
PAGE = Path(mp.__file__).parents[1] / "docs" / "clusters.md"
SETTINGS = str(re.findall(r"--system-config='(.+?)'", PAGE.read_text(encoding="utf-8"))[0])
"""What makes a cluster notice in half a minute that a machine is gone, as the page on clusters says it."""


def environment() -> dict[str, str]:
    return {
        **os.environ,
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": str(TESTS),
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": TOKEN,
        "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    }


def jobs(*arguments: str, within: tuple[str, ...] = ()) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [*within, sys.executable, "-c", JOBS, *arguments],
        env=environment(),
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process: subprocess.Popen[str]) -> None:
    _, said = process.communicate(timeout=PATIENCE_S)
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


def wait_for(what: Callable[[], Any], meanwhile: subprocess.Popen[str] | None = None) -> Any:
    """Wait until something is so, and return it; a process that ends meanwhile says why it is not."""
    until = time.monotonic() + PATIENCE_S
    while not (found := what()):
        assert meanwhile is None or meanwhile.poll() is None, meanwhile.communicate()
        assert time.monotonic() < until, f"not within {PATIENCE_S:g} s"
        time.sleep(0.02)
    return found


def results(folder: Path) -> dict[str, bytes]:
    return contents(folder, ".safetensors", ".json")


@pytest.fixture(scope="module")
def serial(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    place = tmp_path_factory.mktemp("serial")
    finish(jobs(str(place)))
    found = results(place)
    # the reference's weights, sums of two data sets and models, what states of the search are worth, and the plan
    assert len(found) == 5 + 2
    return found


def test_a_killed_worker_changes_no_bit(serial: dict[str, bytes], tmp_path: Path) -> None:
    process = jobs(str(tmp_path), "auto")
    worker, *_ = wait_for(lambda: at_work(process.pid), process)
    time.sleep(0.2)
    os.kill(worker, signal.SIGKILL)
    finish(process)
    assert results(tmp_path) == serial


def ray(*words: str, within: tuple[str, ...] = ()) -> subprocess.Popen[bytes]:
    command = [*within, str(BIN / "ray"), "start", *words, "--block", "--disable-usage-stats"]
    return subprocess.Popen(
        [*command, "--object-store-memory=100000000"],
        env=environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )


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


def listens(process: subprocess.Popen[bytes], port: int) -> bool:
    """Whether something listens to a port in the network that a process is in."""
    rows = [line.split() for line in Path(f"/proc/{process.pid}/net/tcp6").read_text().splitlines()[1:]]
    return any(row[1].endswith(f":{port:04X}") and row[3] == "0A" for row in rows)


class Nodes(NamedTuple):
    """Two of a cluster, each in a network of its own: how to run something beside the first, and the second."""

    address: str
    here: tuple[str, ...]
    there: tuple[str, ...]
    other: subprocess.Popen[bytes]

    def lose(self, how: str) -> None:
        """Kill all of the second, or cut the link to it, which tells neither end."""
        if how == "killed":
            stop(self.other)
        else:
            subprocess.run([*self.there, "ip", "link", "set", "end", "down"], check=True)


@contextmanager
def two_nodes(machines: tuple[tuple[str, ...], tuple[str, ...]], cores: tuple[int, int]) -> Iterator[Nodes]:
    here, there = machines
    # short names: Ray's sockets lie within
    place = Path("/tmp") / f"mcp{os.getpid()}"
    words = ["--head", "--node-ip-address=10.77.0.1", "--port=6399", f"--system-config={SETTINGS}"]
    words += [f"--num-cpus={cores[0]}", "--include-dashboard=false", f"--temp-dir={place}"]
    nodes = [ray(*words, within=here)]
    try:
        wait_for(lambda: listens(nodes[0], 6399))
        words = ["--address=10.77.0.1:6399", "--node-ip-address=10.77.0.2", f"--num-cpus={cores[1]}"]
        nodes.append(ray(*words, within=there))
        arrived = [*here, sys.executable, "-c", ARRIVED, address := "10.77.0.1:6399"]
        subprocess.run(arrived, env=environment(), check=True, timeout=PATIENCE_S)
        yield Nodes(address, here, there, nodes[1])
    finally:
        for node in nodes:
            stop(node)
        shutil.rmtree(place, ignore_errors=True)


@pytest.mark.parametrize("how", ["killed", "cut off"])
def test_a_lost_machine_changes_no_bit(
    how: str, serial: dict[str, bytes], tmp_path: Path, two_machines: tuple[tuple[str, ...], tuple[str, ...]]
) -> None:
    with two_nodes(two_machines, (1, 1)) as nodes:
        process = jobs(str(tmp_path), nodes.address, within=nodes.here)
        try:
            wait_for(lambda: at_work(nodes.other.pid), process)
            nodes.lose(how)
            finish(process)
        finally:
            process.kill()
    assert results(tmp_path) == serial


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


# whoever reads it leaves a word of itself
PLUGIN = """
import os
from pathlib import Path
import torch
import medcore_prune as mp

Path({place!r}, str(os.getpid())).touch()

@mp.register_criterion("own_norm", source="a test")
def own_norm(group: mp.StructuredGroup) -> torch.Tensor:
    return torch.stack([group.layer_out.weight[:, columns].norm() for columns in group.out_cols])
"""


def test_a_criterion_of_ones_own_reaches_the_workers(pair: list[str], tmp_path: Path) -> None:
    file, readers = tmp_path / "own_norm.py", tmp_path / "readers"
    readers.mkdir()
    file.write_text(PLUGIN.format(place=str(readers)))
    words = f"baselines --quick --methods own_norm --levels h50_m70 --no-gallery --plugin {file}"
    bench_here(words, pair, tmp_path / "serial")
    alone = {path.name for path in readers.iterdir()}
    assert len(alone) == 1
    process = bench(words, pair, tmp_path / "ray", "--ray", "auto")
    finish(process)
    workers = {path.name for path in readers.iterdir()} - alone - {str(process.pid)}
    assert workers
    found, expected = (contents(tmp_path / name, ".csv") for name in ("ray", "serial"))
    assert found == expected
    assert len(expected) > 5


def test_recoveries_elsewhere_come_to_the_bits_of_the_serial_ones(pair: list[str], tmp_path: Path) -> None:
    words = "main --quick --one-time h50_m70 --no-sequential --steps 1 --set starts=corrected --set schedule=one-shot"
    bench_here(words, pair, tmp_path / "serial" / "main")
    finish(bench(words, pair, tmp_path / "ray" / "main", "--ray", "auto"))
    found, expected = (contents(tmp_path / name / "main", ".csv") for name in ("ray", "serial"))
    assert found == expected
    assert len(expected) > 10
    # whoever asks writes results alone
    assert not list((tmp_path / "ray").glob("**/recoveries/*"))


RECOVER = (
    "recover small.safetensors --teacher adapted.pth --data own=own --steps 8 --batch-size 4 --validate-every 2 --out"
)


def recover(place: Path, out: str, *more: str, within: tuple[str, ...] = ()) -> subprocess.Popen[str]:
    return command(place, *RECOVER.split(), out, *more, within=within)


def command(place: Path, *words: str, within: tuple[str, ...] = ()) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [*within, str(BIN / "medcore-prune"), *words],
        env=environment(),
        cwd=place,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.fixture(scope="module")
def one(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What one process comes to that accumulates two halves, beside all that a training reads."""
    place = tmp_path_factory.mktemp("training")
    write_training(place)
    finish(recover(place, "one.safetensors", "--accumulate", "2"))
    return place / "one.safetensors"


def same(two: Path, one: Path) -> bool:
    weights, expected = load_file(two), load_file(one)
    assert read_header(two) == read_header(one)
    assert two.with_suffix(".loss.csv").read_bytes() == one.with_suffix(".loss.csv").read_bytes()
    return all(weights[name].equal(value) for name, value in expected.items())


def test_a_model_that_was_pruned_with_a_cluster_is_the_same(one: Path) -> None:
    words = f"prune adapted.pth --reference reference.pth --data own=own --calibration 4 --image-size {SIZE} --cache"
    for name, more in (("here", ()), ("ray", ("--ray", "auto"))):
        finish(command(one.parent, *words.split(), f"cache-{name}", "--out", f"{name}.safetensors", *more))
    ours, theirs = (one.with_name(f"{name}.safetensors") for name in ("ray", "here"))
    assert read_header(ours) == read_header(theirs)
    weights = load_file(ours)
    assert all(weights[name].equal(value) for name, value in load_file(theirs).items())
    found, expected = (contents(one.parent / f"cache-{name}", ".safetensors") for name in ("ray", "here"))
    assert found == expected
    assert len(expected) > 1


def test_a_training_that_lost_a_process_goes_on_to_the_bits_of_one(one: Path) -> None:
    more = ("--ray", "auto", "--processes", "2")
    process = recover(one.parent, "two.safetensors", *more)
    wait_for(one.with_name("two.state.pt").exists, process)
    os.kill(at_work(process.pid)[0], signal.SIGKILL)
    _, said = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 1
    assert "error: another process of this training has ended: give the same command again" in said
    process = recover(one.parent, "two.safetensors", *more)
    told, said = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 0, said
    assert "recovery: going on after step " in said
    # the first alone is heard
    assert told.count("written: two.safetensors") == 1
    assert same(one.with_name("two.safetensors"), one)


def test_a_training_ends_where_a_machine_is_cut_off(
    one: Path, two_machines: tuple[tuple[str, ...], tuple[str, ...]]
) -> None:
    with two_nodes(two_machines, (0, 1)) as nodes:
        more = ("--ray", nodes.address, "--processes", "2")
        process = recover(one.parent, "far.safetensors", *more, within=nodes.here)
        try:
            wait_for(one.with_name("far.state.pt").exists, process)
            nodes.lose("cut off")
            _, said = process.communicate(timeout=PATIENCE_S)
        finally:
            process.kill()
    assert process.returncode == 1
    assert "error: a machine of this training is gone: give the same command again" in said
    finish(recover(one.parent, "far.safetensors", "--accumulate", "2"))
    assert same(one.with_name("far.safetensors"), one)


def test_an_adaptation_of_two_processes_comes_to_the_bits_of_one(one: Path) -> None:
    words = f"adapt reference.pth --data own=own --steps 4 --batch-size 4 --image-size {SIZE} --out"
    for name, more in (("alone", ("--accumulate", "2")), ("both", ("--ray", "auto", "--processes", "2"))):
        finish(command(one.parent, *words.split(), f"{name}.pth", *more))
    found, expected = (torch.load(one.with_name(f"{name}.pth"), weights_only=True) for name in ("both", "alone"))
    assert found["step"] == expected["step"] == 4
    assert list(found["model"]) == list(expected["model"])
    assert all(found["model"][name].equal(value) for name, value in expected["model"].items())
    records = [json.loads(one.with_name(f"{name}.json").read_text()) for name in ("both", "alone")]
    assert records[0]["losses"] == records[1]["losses"]
    assert len(records[0]["losses"]) == 4


def test_more_processes_than_cores_are_refused_at_once(one: Path) -> None:
    process = recover(one.parent, "many.safetensors", "--ray", "auto", "--processes", "1000")
    _, said = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 1
    assert "cores for 999 processes of 1 threads beside this one: take fewer" in said
