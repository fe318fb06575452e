"""Checkpoints that would take more memory than they are long are refused; all that is usual is read."""

import zipfile
from pathlib import Path

import pytest
import torch

from medcore_prune._support.errors import CheckpointError
from medcore_prune._support.torch_file import read_torch_file
from medcore_prune.checkpoints.sam import read_state_dict

GIGANTIC = 10**12


def test_usual_content_is_read(tmp_path: Path) -> None:
    shared = torch.arange(6.0)
    content = {
        "model": {"a": shared, "b": shared[2:].view(2, 2), "t": torch.ones(2, 3).T, "empty": torch.zeros(0, 4)},
        "optimizer": {
            "state": {0: {"step": torch.tensor(3.0)}},
            "param_groups": [{"params": [0], "betas": (0.9, 0.99)}],
        },
        "epoch": 3,
    }
    for zipped in (True, False):
        torch.save(content, path := tmp_path / "x.pth", _use_new_zipfile_serialization=zipped)
        found = read_torch_file(path)
        assert found["epoch"] == 3
        assert all(torch.equal(found["model"][name], value) for name, value in content["model"].items())


def test_a_tensor_that_repeats_one_value_without_end_is_refused(tmp_path: Path) -> None:
    torch.save({"w": torch.zeros(1).expand(GIGANTIC)}, path := tmp_path / "x.pth")
    assert path.stat().st_size < 5000
    with pytest.raises(CheckpointError, match=r"x\.pth: .*tensor of shape \(1000000000000,\) for which not as many"):
        read_state_dict(path)


@pytest.mark.parametrize(
    "tensor",
    [
        torch.sparse_coo_tensor(torch.tensor([[0]]), torch.ones(1), (GIGANTIC,)),
        torch.empty(GIGANTIC, device="meta"),
    ],
)
def test_tensors_without_values_are_refused(tmp_path: Path, tensor: torch.Tensor) -> None:
    torch.save({"w": tensor}, path := tmp_path / "x.pth")
    with pytest.raises(CheckpointError, match=r"x\.pth: "):
        read_state_dict(path)


def test_a_compressed_archive_is_refused_before_it_is_unpacked(tmp_path: Path) -> None:
    torch.save({"w": torch.zeros(1_000_000)}, plain := tmp_path / "plain.pth")
    with (
        zipfile.ZipFile(plain) as source,
        zipfile.ZipFile(path := tmp_path / "x.pth", "w", zipfile.ZIP_DEFLATED) as bomb,
    ):
        for entry in source.namelist():
            bomb.writestr(entry, source.read(entry))
    assert path.stat().st_size < 10_000
    with pytest.raises(CheckpointError, match="entries are compressed"):
        read_state_dict(path)


def test_what_is_shared_many_times_is_looked_at_once(tmp_path: Path) -> None:
    content: list[object] = [torch.ones(2)]
    for _ in range(60):
        content = [content, content]
    torch.save(content, path := tmp_path / "x.pth")
    assert isinstance(read_torch_file(path), list)
