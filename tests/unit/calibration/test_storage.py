import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from medcore_prune._support.errors import StatisticsError
from medcore_prune.calibration.statistics import Statistics
from medcore_prune.calibration.storage import FilePart, Header, MemoryPart, write_part

HEADER = Header("fisher", "adapted", "kvasir", (("1.png", "ab"), ("2.png", "cd")), model_hash="m")


def written(path: Path) -> Path:
    write_part(path, HEADER, {"a": torch.arange(6.0).view(2, 3), "b": torch.ones(1000)})
    return path


def test_round_trip(tmp_path: Path) -> None:
    part = FilePart(written(tmp_path / "part.safetensors"))
    assert part.header == HEADER
    assert part.header.count == 2
    assert sorted(part.names) == ["a", "b"]
    assert part.shape("a") == (2, 3)
    assert torch.equal(part.tensor("a"), torch.arange(6.0).view(2, 3))


def test_data_hash_depends_on_every_sample() -> None:
    hashes = {
        Header("fisher", "adapted", dataset, samples).data_hash
        for dataset in ("a", "b")
        for samples in [(("1", "x"),), (("1", "y"),), (("2", "x"),), (("1", "x"), ("2", "x"))]
    }
    assert len(hashes) == 8


def test_truncated(tmp_path: Path) -> None:
    path = written(tmp_path / "part.safetensors")
    content = path.read_bytes()
    for length in (0, 4, 100, len(content) - 1):
        path.write_bytes(content[:length])
        with pytest.raises(StatisticsError, match=r"part.safetensors: damaged or truncated .*remove it"):
            FilePart(path)


def test_changed_values_are_noticed_when_read(tmp_path: Path) -> None:
    path = written(tmp_path / "part.safetensors")
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    part = FilePart(path)
    assert part.tensor("a").sum() == 15
    with pytest.raises(StatisticsError, match="b is damaged"):
        part.tensor("b")


def test_foreign_files(tmp_path: Path) -> None:
    weights = tmp_path / "weights.safetensors"
    save_file({"a": torch.ones(2)}, weights)
    with pytest.raises(StatisticsError, match="expected calibration statistics, got another safetensors file"):
        FilePart(weights)
    (tmp_path / "page.safetensors").write_text("<html>not here</html>")
    with pytest.raises(StatisticsError, match="damaged or truncated"):
        FilePart(tmp_path / "page.safetensors")
    with pytest.raises(StatisticsError, match="no such statistics file"):
        FilePart(tmp_path / "none.safetensors")
    save_file({"a": torch.ones(2)}, weights, metadata={"medcore_prune": '{"format": 99}'})
    with pytest.raises(StatisticsError, match="expected format 2, got 99"):
        FilePart(weights)
    save_file({"a": torch.ones(2)}, weights, metadata={"medcore_prune": '{"format": 2, "header": {}}'})
    with pytest.raises(StatisticsError, match="header is not one of this package's"):
        FilePart(weights)


def test_missing_tensor_is_named(tmp_path: Path) -> None:
    with pytest.raises(StatisticsError, match="holds no c"):
        FilePart(written(tmp_path / "part.safetensors")).tensor("c")


_READ_ONE_LAYER = """
import sys, torch
from medcore_prune.calibration.statistics import Statistics

def private_kb():
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("RssAnon"))

torch.ones(1000).add_(1)
before = private_kb()
statistics = Statistics.load(sys.argv[1])
assert statistics.fisher("kvasir", "small", lambda_b=0.0)[0].sum() == 4
print(private_kb() - before)
"""


@pytest.mark.skipif(not os.path.exists("/proc/self/status"), reason="reads memory use from /proc")
def test_only_what_is_asked_for_is_read(tmp_path: Path) -> None:
    size = 12_000_000
    tensors = {f"plain_plain/{name}.weight": torch.ones(n) for name, n in (("small", 4), ("large", size))}
    tensors |= {key.replace("weight", "bias"): torch.ones(4) for key in list(tensors)}
    one = Header("fisher", "adapted", "kvasir", (("1.png", "ab"),))
    Statistics([MemoryPart(one, tensors)]).save(tmp_path)
    run = [sys.executable, "-c", _READ_ONE_LAYER, str(tmp_path)]
    grown_kb = int(subprocess.run(run, check=True, capture_output=True, text=True).stdout)
    assert grown_kb < size * 4 / 1024 / 4
