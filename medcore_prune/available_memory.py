"""How much memory work may still take, without a dependency: what the system, its container, or the GPU has left."""

import os
from collections.abc import Iterator
from pathlib import Path

import torch

_CGROUPS = Path("/sys/fs/cgroup")
_OWN_CGROUPS = Path("/proc/self/cgroup")
_MEMINFO = Path("/proc/meminfo")
_NO_LIMIT = 1 << 60
"""Above this, version 1 of control groups means that there is no limit."""


def available_bytes(device: str | torch.device = "cpu") -> int | None:
    """Bytes that may still be taken on a device.

    On a processor the least of what the machine has available and of what each control group (a container) above this
    process allows; files in the page cache count as free. On a CUDA device its free memory and what PyTorch holds in
    reserve.

    Args:
        device: Where the work will run.

    Returns:
        Bytes, or None where the system does not tell.
    """
    place = torch.device(device)
    if place.type == "cuda":
        reserve = torch.cuda.memory_reserved(place) - torch.cuda.memory_allocated(place)
        return int(torch.cuda.mem_get_info(place)[0]) + reserve
    if place.type != "cpu":
        return None
    return min((left for left in (_of_machine(), *_of_cgroups()) if left is not None), default=None)


def _of_machine() -> int | None:
    try:
        for line in _MEMINFO.read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) << 10
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError):
        return None


def _of_cgroups() -> Iterator[int | None]:
    """What each group from this process's own up to the root leaves, in both versions of control groups."""
    paths = {"": "", "memory": ""}
    try:
        for line in _OWN_CGROUPS.read_text().splitlines():
            _, controllers, path = line.split(":", 2)
            if controllers in paths:
                paths[controllers] = path.strip("/")
    except (OSError, ValueError):
        pass
    for root, path, names in (
        (_CGROUPS, paths[""], ("memory.max", "memory.current", "inactive_file")),
        (
            _CGROUPS / "memory",
            paths["memory"],
            ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
        ),
    ):
        folder = root / path
        for each in (folder, *folder.parents):
            yield _left_in(each, *names)
            if each == root:
                break


def _left_in(folder: Path, limit_name: str, used_name: str, cache_name: str) -> int | None:
    try:
        limit = int((folder / limit_name).read_text())
        used = int((folder / used_name).read_text())
    except (OSError, ValueError):  # no such group, or "max"
        return None
    if limit >= _NO_LIMIT:
        return None
    return max(0, limit - used + _file_cache(folder / "memory.stat", cache_name))


def _file_cache(path: Path, name: str) -> int:
    try:
        lines = (line.split() for line in path.read_text().splitlines())
        return next((int(fields[1]) for fields in lines if fields[0] == name), 0)
    except (OSError, ValueError, IndexError):
        return 0
