"""What is left of an encoder and its time: neurons cut in multiples, and predicted beside measured times."""

import json

import pytest
from click.testing import CliRunner

from medcore_prune.benchmarks.speed.sizes import MULTIPLES, command


def test_each_multiple_leaves_multiples_and_each_level_has_both_times() -> None:
    words = ["--batch-size", "1", "--repeats", "1", "--predicted", "h20_m20,h70_m95"]
    result = CliRunner().invoke(command, words, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    found = json.loads(result.output)
    assert (found["precision"], list(map(int, found["multiples"]))) == ("fp32", list(MULTIPLES))
    for size, row in found["multiples"].items():
        assert all(count % int(size) == 0 and count < 480 for count in row["neurons"])
        assert row["ms"] > 0
    assert list(found["predicted"]) == ["h20_m20", "h70_m95"]
    mild, strong = found["predicted"].values()
    assert 0 < mild["predicted"] < strong["predicted"] < 1
    for row in (mild, strong):
        assert row["removed"] == pytest.approx(1 - row["small_ms"] / row["whole_ms"], abs=1e-3)
        assert row["error"] == pytest.approx((1 - row["predicted"]) / (1 - row["removed"]) - 1, abs=1e-2)
