"""`medcore-bench plan`, end to end."""

import csv
import json
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from medcore_prune.benchmarks import cli as bench
from medcore_prune.pruning.plan import Plan


def run(*arguments: str) -> Result:
    return CliRunner().invoke(bench.cli, ["plan", *arguments], catch_exceptions=False)


def cells(output: str, first: str) -> str:
    (line,) = [line for line in output.splitlines() if line.strip().startswith(first)]
    return " ".join(line.split())


def test_the_default_is_the_papers_table() -> None:
    got = run()
    assert got.exit_code == 0
    assert cells(got.output, "none") == "none 0 of 144 0 of 36864 0.0% / 0.0% 89.7M 0.0% 926.5G 0.0%"
    assert cells(got.output, "h50_m70 ") == "h50_m70 72 of 144 25805 of 36864 50.0% / 70.0% 35.8M 60.0% 385.2G 58.4%"
    assert cells(got.output, "h80_m95").endswith("23.2M 74.2% 224.6G 75.8% heads and neurons")
    for level, params in (("h60_m70", "15.6M"), ("h72_m84", "13.7M"), ("h84_m95", "12.0M")):
        assert params in cells(got.output, f"h70_m95 then {level}")
    assert "protected blocks: 10-11" in got.output


def test_levels_of_ones_own_come_without_the_second_pass() -> None:
    got = run("--model", "pocket", "--levels", "h25_m10, h25_m10,h0_m50", "--set", "protect=0", "--per-block")
    assert "then" not in got.output
    assert cells(got.output, "h25_m10").startswith("h25_m10 36 of 144")
    assert "protected blocks: none" in got.output
    assert cells(got.output, "2 global") == "2 global 12 / 480 9 / 432 12 / 240"


def test_tables_and_plans_are_written_and_replayed(tmp_path: Path) -> None:
    out, plans = tmp_path / "out", tmp_path / "plans"
    options = ("--model", "pocket", "--levels", "h50_m70", "--sequential", "h60_m70")
    got = run(*options, "--out", str(out), "--save", str(plans), "--per-block")
    assert got.exit_code == 0
    with open(out / "plan.csv", newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [row["level"] for row in rows] == ["none", "h50_m70", "h70_m95 then h60_m70"]
    assert int(rows[1]["heads_removed"]) == 72
    assert "| h50_m70 | 72 of 144 |" in (out / "plan.md").read_text()
    assert "| 0 window 6 |" in (out / "plan.md").read_text()

    stored = plans / "h50_m70.json"
    assert Plan.load(stored).hash == rows[1]["plan_hash"]
    again = run("--model", "pocket", "--levels", "h0_m0", "--replay", str(stored))
    assert cells(again.output, "h50_m70") == cells(got.output.partition("Kept by")[0], "h50_m70")


def test_sensitivity_moves_the_quotas(tmp_path: Path) -> None:
    numbers = tmp_path / "sensitivity.json"
    numbers.write_text(json.dumps({"sensitivity": [1.0] * 6 + [9.0] * 6}))
    options = ("--quotas", "sensitivity", "--sensitivity", str(numbers), "--levels", "h30_m30")
    got = run("--model", "pocket", *options, "--per-block")
    heads = [int(cells(got.output, f"{block} ").split("/")[1].split()[1]) for block in range(10)]
    assert max(heads[:6]) < min(heads[6:])


def test_group_size_and_image_size() -> None:
    got = run("--set", "image_size=256", "--levels", "h0_m70", "--set", "mlp_group_size=64", "--per-block")
    assert "vit_b at 256 px: 16 x 16 tokens" in got.output
    neurons = [int(cells(got.output, f"{block} ").split("/")[-1]) for block in range(10)]
    assert all(count % 64 == 0 for count in neurons)


def test_the_full_convention() -> None:
    assert "972.1G" in cells(run("--convention", "full", "--levels", "h50_m70").output, "none")


def test_usage_mistakes_say_what_to_give() -> None:
    for arguments, message in [
        (("--quotas", "sensitivity"), "give --sensitivity FILE.json"),
        (("--levels", "h50"), "cannot read level 'h50'"),
        (("--levels", "h100_m50"), "must be below 100"),
        (("--first", "all"), "cannot read level 'all'"),
        (("--model", "vit_x"), "vit_x"),
        (("--replay", "nowhere.json"), "does not exist"),
    ]:
        got = run(*arguments)
        assert got.exit_code == 2
        assert message in " ".join(got.output.split())


def fails(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    monkeypatch.setattr(sys, "argv", ["medcore-bench", "plan", *arguments])
    with pytest.raises(SystemExit) as stop:
        bench.main()
    assert stop.value.code == 1
    (line,) = capsys.readouterr().err.splitlines()
    return line


def test_failures_are_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    pocket = ("--model", "pocket")
    assert "cannot protect 12 of 12" in fails(monkeypatch, capsys, *pocket, "--set", "protect=12")
    assert "only 110 can go" in fails(monkeypatch, capsys, *pocket, "--levels", "h80_m30", "--set", "strict=true")
    assert "protect at least one" in fails(
        monkeypatch, capsys, *pocket, "--set", "protect=0", "--sequential", "h60_m70"
    )
    assert "multiple of the patch size" in fails(monkeypatch, capsys, *pocket, "--set", "image_size=99")
    damaged = tmp_path / "damaged.json"
    for text in ("[1, true]", "{}", "[1, ", '"a"'):
        damaged.write_text(text)
        options = (*pocket, "--quotas", "sensitivity", "--sensitivity", str(damaged))
        assert "expected a JSON list of numbers" in fails(monkeypatch, capsys, *options)
    damaged.write_text("[1, 2]")
    assert "got 2 sensitivities for 12 blocks" in fails(monkeypatch, capsys, *options)
    assert "cannot read plan" in fails(monkeypatch, capsys, *pocket, "--replay", str(damaged))


def test_help_names_every_option_and_its_default() -> None:
    text = "".join(run("--help").output.split())
    assert "h40_m30,h50_m70,h70_m70,h70_m95,h80_m95,h84_m95" in text
    assert "h60_m70,h72_m84,h84_m95" in text
