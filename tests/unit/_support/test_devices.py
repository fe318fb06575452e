import platform
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny import TINY, tiny_sam

import medcore_prune as mp
from medcore_prune._support.devices import give_back_freed, processor, require_device
from medcore_prune._support.errors import MedcorePruneError


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the C library is not glibc")
def test_freed_memory_between_what_stays_is_given_back() -> None:
    def resident_mb() -> float:
        lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
        return int(next(line.split()[1] for line in lines if line.startswith("VmRSS"))) / 1024

    # below what the C library takes from the system by itself, each with something small behind it that stays
    large, small = [], []
    for _ in range(800):
        large.append(np.ones(100_000, np.uint8))
        small.append(np.ones(2_000, np.uint8))
    large.clear()
    before = resident_mb()
    give_back_freed()
    assert before - resident_mb() > 40
    assert len(small) == 800


@pytest.mark.parametrize("device", ["cpu", torch.device("cpu"), "cpu:0"])
def test_the_cpu_can_be_used(device: str | torch.device) -> None:
    require_device(device)


@pytest.mark.parametrize(
    "takes",
    [
        lambda path, device: mp.load(path, device),
        lambda path, device: mp.load_sam(TINY, device=device),
        lambda path, device: mp.zoo.pocket("adapted", device=device),
    ],
    ids=["load", "load_sam", "zoo"],
)
@pytest.mark.parametrize("device", ["abacus", "cuda:63"])
def test_a_device_that_is_not_there_is_not_taken_for_a_damaged_file(
    takes: Callable[..., Any], device: str, tmp_path: Path
) -> None:
    mp.save(tiny_sam(), tmp_path / "a.safetensors")
    with pytest.raises(MedcorePruneError, match=rf"^device {device}: not usable here \(.*\); expected cpu, or cuda"):
        takes(tmp_path / "a.safetensors", device)


def test_the_processor_is_named_as_the_system_does(tmp_path: Path) -> None:
    place = tmp_path / "cpuinfo"
    place.write_text("processor\t: 0\nmodel name\t: A Processor: Fast\nmodel name\t: B\n")
    assert processor(place) == "A Processor: Fast"
    assert processor(tmp_path / "none")
