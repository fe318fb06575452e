"""A Ray cluster of machines that may be lost: network namespaces with a link between them that can be cut."""

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
from typing import Any, NamedTuple, TypeAlias

import pytest
from forked import TESTS, Script

import medcore_prune as mp

Process: TypeAlias = subprocess.Popen[str] | Script

PATIENCE_S = 300.0
"""How long anything may take, on a machine that does other work."""
BIN = Path(sys.executable).parent
# ends once both nodes are known
ARRIVED = """
import sys, time, ray
ray.init(sys.argv[1], logging_level="error")
while sum(node["Alive"] for node in ray.nodes()) < 2:
    time.sleep(0.1)
"""
TOKEN = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
"""Without one and the same, Ray's nodes refuse each other; one alone needs none."""
PAGE = Path(mp.__file__).parents[1] / "docs" / "clusters.md"
SETTINGS = str(re.findall(r"--system-config='(.+?)'", PAGE.read_text(encoding="utf-8"))[0])
"""What makes a cluster notice in half a minute that a machine is gone, as the page on clusters says it."""


def environment() -> dict[str, str]:
    """What a command on a cluster and its workers know."""
    return {
        **os.environ,
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": TESTS,
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    }


def parents() -> dict[int, int]:
    """Every process of this machine and the one that it comes from."""
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


def wait_for(what: Callable[[], Any], meanwhile: Process | None = None) -> Any:
    """Wait until something is so, and return it; a process that ends meanwhile says why it is not."""
    until = time.monotonic() + PATIENCE_S
    while not (found := what()):
        assert meanwhile is None or _runs(meanwhile), _said(meanwhile)
        assert time.monotonic() < until, f"not within {PATIENCE_S:g} s"
        time.sleep(0.02)
    return found


def _runs(process: Process) -> bool:
    return process.running if isinstance(process, Script) else process.poll() is None


def _said(process: Process) -> object:
    return process.wait() if isinstance(process, Script) else process.communicate()


def _node(*words: str, within: tuple[str, ...] = ()) -> subprocess.Popen[bytes]:
    command = [*within, str(BIN / "ray"), "start", *words, "--block", "--disable-usage-stats"]
    return subprocess.Popen(
        [*command, "--object-store-memory=100000000"],
        env=environment() | TOKEN,
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


def _listens(process: subprocess.Popen[bytes], port: int) -> bool:
    """Whether something listens to a port in the network that a process is in."""
    rows = [line.split() for line in Path(f"/proc/{process.pid}/net/tcp6").read_text().splitlines()[1:]]
    return any(row[1].endswith(f":{port:04X}") and row[3] == "0A" for row in rows)


class Nodes(NamedTuple):
    """Two of a cluster, each in a network of its own: how to run something beside the first, and the second."""

    address: str
    here: tuple[str, ...]
    there: tuple[str, ...]
    other: subprocess.Popen[bytes]

    @contextmanager
    def joined(self, cores: int) -> Iterator[None]:
        """One more node beside the first, which has so many cores."""
        node = _node(
            f"--address={self.address}", "--node-ip-address=10.77.0.1", f"--num-cpus={cores}", within=self.here
        )
        try:
            yield
        finally:
            stop(node)

    def cut_off(self) -> None:
        """Cut the link to the second, which tells neither end."""
        subprocess.run([*self.there, "ip", "link", "set", "end", "down"], check=True)


@contextmanager
def two_nodes(machines: tuple[tuple[str, ...], tuple[str, ...]], cores: int) -> Iterator[Nodes]:
    """Start a head without cores on the one machine and a node with so many on the other."""
    here, there = machines
    # short names: Ray's sockets lie within
    place = Path("/tmp") / f"mcp{os.getpid()}"
    words = ["--head", "--node-ip-address=10.77.0.1", "--port=6399", f"--system-config={SETTINGS}"]
    words += ["--num-cpus=0", "--include-dashboard=false", f"--temp-dir={place}"]
    nodes = [_node(*words, within=here)]
    try:
        wait_for(lambda: _listens(nodes[0], 6399))
        words = ["--address=10.77.0.1:6399", "--node-ip-address=10.77.0.2", f"--num-cpus={cores}"]
        nodes.append(_node(*words, within=there))
        arrived = [*here, sys.executable, "-c", ARRIVED, address := "10.77.0.1:6399"]
        subprocess.run(arrived, env=environment() | TOKEN, check=True, timeout=PATIENCE_S)
        yield Nodes(address, here, there, nodes[1])
    finally:
        for node in nodes:
            stop(node)
        shutil.rmtree(place, ignore_errors=True)
