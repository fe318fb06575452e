"""Rounds, medians and records of the timings."""

import json
import time
from pathlib import Path

import click
import pytest
import torch
from click.testing import CliRunner

from medcore_prune.benchmarks.speed.timed import Run, median_ms, median_ratio, ratios, recorded, rounds_of, seconds


def test_the_first_round_warms_up_and_does_not_count() -> None:
    taken = iter([{"way": 9.0}, {"way": 1.0}, {"way": 2.0}, {"way": 3.0}])
    rounds = rounds_of(lambda: next(taken), 3)
    assert [each["way"] for each in rounds] == [1.0, 2.0, 3.0]


def test_ratios_are_taken_within_rounds() -> None:
    # the machine is slow in the second round: the medians' ratio would be 2 / 4
    rounds = [{"a": 1.0, "b": 4.0}, {"a": 100.0, "b": 10.0}, {"a": 2.0, "b": 1.0}]
    assert median_ratio(rounds, "a", "b") == 2.0
    assert (median_ms(rounds, "a"), median_ms(rounds, "b")) == (2000.0, 4000.0)
    assert ratios(rounds, ("a", "b")) == {"a_over_b": 2.0, "a_over_b_spread": [0.25, 10.0]}


def test_waiting_is_not_work() -> None:
    assert seconds(lambda: time.sleep(0.2)) < 0.1


@click.command()
@click.option("--size", default=3)
@recorded
def example(size: int, run: Run) -> None:
    """Measure nothing."""
    run.record("example", {"size": size}, lambda: {"threads_then": torch.get_num_threads()}, "click", "no-such-package")


def test_a_record_says_what_it_is_of(tmp_path: Path) -> None:
    before, out = torch.get_num_threads(), tmp_path / "example.json"
    words = ["--threads", str(before + 1), "--note", "a busy one", "--out", str(out)]
    result = CliRunner().invoke(example, words, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    found = json.loads(out.read_text())
    assert json.loads(result.stdout) == found
    assert torch.get_num_threads() == before
    assert found.pop("threads_then") == found["threads"] == before + 1
    assert (found["script"], found["size"], found["device"], found["clock"]) == ("example", 3, "cpu", "CPU")
    assert (found["note"], found["machine"]["cores"] >= 1) == ("a busy one", True)
    assert found["versions"]["torch"] == torch.__version__
    assert {"click", "python", "medcore-prune"} <= found["versions"].keys()
    assert "no-such-package" not in found["versions"]


@pytest.mark.parametrize("threads", ["0", "x"])
def test_threads_are_a_number(threads: str) -> None:
    assert CliRunner().invoke(example, ["--threads", threads]).exit_code == 2
