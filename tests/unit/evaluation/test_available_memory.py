"""Available memory from made-up systems: machine, containers of both versions, a GPU."""

from pathlib import Path

import pytest
import torch

from medcore_prune.evaluation import estimates
from medcore_prune.evaluation.estimates import available_bytes


@pytest.fixture
def system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A system with 8 GiB available and no control group."""
    (tmp_path / "meminfo").write_text("MemTotal: 16777216 kB\nMemAvailable: 8388608 kB\n")
    monkeypatch.setattr(estimates, "_MEMINFO", tmp_path / "meminfo")
    monkeypatch.setattr(estimates, "_OWN_CGROUPS", tmp_path / "own")
    monkeypatch.setattr(estimates, "_CGROUPS", tmp_path / "cgroup")
    return tmp_path


def write(folder: Path, **files: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / name.replace("__", ".")).write_text(content)


def test_machine_alone(system: Path) -> None:
    assert available_bytes() == 8 << 30


def test_container_of_version_2(system: Path) -> None:
    (system / "own").write_text("0::/a/b\n")
    write(system / "cgroup" / "a" / "b", memory__max="max\n", memory__current="5\n")
    write(system / "cgroup" / "a", memory__max="4000\n", memory__current="3000\n", memory__stat="inactive_file 500\n")
    assert available_bytes() == 1500


def test_limit_at_the_root_of_a_container(system: Path) -> None:
    (system / "own").write_text("0::/\n")
    write(system / "cgroup", memory__max="4000", memory__current="4100")
    assert available_bytes() == 0


def test_container_of_version_1(system: Path) -> None:
    (system / "own").write_text("9:cpu:/x\n4:memory:/job\n")
    folder = system / "cgroup" / "memory"
    write(folder, memory__limit_in_bytes="9223372036854771712", memory__usage_in_bytes="1")
    write(folder / "job", memory__limit_in_bytes="7000", memory__usage_in_bytes="2000")
    write(folder / "job", memory__stat="cache 9\ntotal_inactive_file 100\n")
    assert available_bytes() == 5100


def test_no_limit_and_no_machine(system: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (system / "meminfo").unlink()

    def unknown(_: str) -> int:
        raise ValueError("no such name")

    monkeypatch.setattr(estimates.os, "sysconf", unknown)
    assert available_bytes() is None
    assert available_bytes("meta") is None


def test_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _: (1000, 5000))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda _: 700)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda _: 300)
    assert available_bytes("cuda:1") == 1400


def test_this_system() -> None:
    left = available_bytes()
    assert left is None or 0 < left < 1 << 50
