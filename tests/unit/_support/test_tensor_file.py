"""Safetensors files by plain reads: as the format's own library, and an error where that would end the program."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from medcore_prune._support.errors import CheckpointError, is_out_of_memory
from medcore_prune._support.tensor_file import TensorFile, load_tensors
from medcore_prune.commands.group import _said

KINDS = (torch.float32, torch.float64, torch.float16, torch.bfloat16, torch.int64, torch.uint8, torch.bool)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    tensors = {str(kind): (torch.randn(3, 5) * 9).to(kind) for kind in KINDS}
    save_file({**tensors, "one": torch.tensor(3.0), "none": torch.zeros(0, 4)}, tmp_path / "x.safetensors", {"a": "b"})
    return tmp_path / "x.safetensors"


def test_it_reads_what_the_library_reads(file: Path) -> None:
    with safe_open(file, framework="pt") as known, TensorFile(file) as read:
        assert sorted(read.keys()) == sorted(known.keys())
        assert read.metadata() == known.metadata()
        for name in known.keys():  # noqa: SIM118
            assert torch.equal(read.get_tensor(name), known.get_tensor(name))
            assert read.get_slice(name).get_dtype() == known.get_slice(name).get_dtype()
            assert read.get_slice(name).get_shape() == known.get_slice(name).get_shape()


def test_a_file_that_is_cut_while_it_is_open_is_an_error(tmp_path: Path) -> None:
    save_file({"x": torch.ones(1 << 20)}, path := tmp_path / "x.safetensors")
    with TensorFile(path) as read:
        os.truncate(path, 5000)
        with pytest.raises(SafetensorError, match="x is cut off"):
            read.get_tensor("x")
    with pytest.raises(SafetensorError, match="do not fill the file"):
        load_tensors(path)


@pytest.mark.parametrize(
    "told",
    [
        {"dtype": "F32", "shape": [4], "data_offsets": [0, 8]},
        {"dtype": "F32", "shape": [-2], "data_offsets": [0, 8]},
        {"dtype": "F32", "shape": [2.0], "data_offsets": [0, 8]},
        {"dtype": "F32", "shape": [2], "data_offsets": [8, 0]},
        {"dtype": "F32", "shape": [1 << 62, 4], "data_offsets": [0, 8]},
        {"dtype": "F32", "shape": [2]},
        [],
        None,
    ],
)
def test_headers_that_cannot_be(tmp_path: Path, told: object) -> None:
    text = json.dumps({"x": told}).encode()
    (path := tmp_path / "x.safetensors").write_bytes(len(text).to_bytes(8, "little") + text + bytes(8))
    with pytest.raises(SafetensorError):
        TensorFile(path)


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        RuntimeError("[enforce fail at alloc_cpu.cpp:117] . DefaultCPUAllocator: can't allocate memory: 75 GB"),
        RuntimeError("unable to mmap 400 bytes from file <x>: Cannot allocate memory (12)"),
        ImportError("libtorch_cpu.so: failed to map segment from shared object"),
        RuntimeError("can't start new thread"),
        OSError(12, "Cannot allocate memory"),
    ],
)
def test_memory_that_is_not_there_is_known_from_what_it_became(error: Exception) -> None:
    assert _said(error).startswith("out of memory")
    damaged = CheckpointError("x.pth: damaged")
    damaged.__cause__ = error
    assert is_out_of_memory(damaged)
    with pytest.raises(ZeroDivisionError):
        _said(ZeroDivisionError("Cannot be"))


@pytest.mark.skipif(sys.platform != "linux", reason="limits of memory are Linux's")
def test_a_program_of_little_memory_ends_with_one_line(tmp_path: Path) -> None:
    program = (
        "import click, resource, torch; from medcore_prune.commands.group import run\n"
        "now = int(open('/proc/self/statm').read().split()[0]) * resource.getpagesize()\n"
        "resource.setrlimit(resource.RLIMIT_AS, (now + (64 << 20), now + (64 << 20)))\n"
        "run(click.Command('x', callback=lambda: torch.ones(1 << 26)))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (
        1,
        "error: out of memory: use smaller images, a smaller batch or another device\n",
    )
