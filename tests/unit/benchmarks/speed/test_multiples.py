"""The comparison of multiples cuts neurons in multiples, and times each."""

import json

from click.testing import CliRunner

from medcore_prune.benchmarks.speed.multiples import SIZES, command


def test_each_size_leaves_multiples_of_it() -> None:
    result = CliRunner().invoke(command, ["--batch-size", "1", "--repeats", "1"], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    found = json.loads(result.output)
    assert (found["precision"], list(map(int, found["sizes"]))) == ("fp32", list(SIZES))
    for size, row in found["sizes"].items():
        assert all(count % int(size) == 0 and count < 480 for count in row["neurons"])
        assert row["ms"] > 0
