"""Axes run at their counts, and a line through points is that line."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner
from tiny import TINY, tiny_sam

from medcore_prune.benchmarks.speed import growth
from medcore_prune.benchmarks.speed.growth import METHODS, Axis, axes_of, command, fitted, measure
from medcore_prune.models.families import blocks_of, encoder_of
from medcore_prune.models.fingerprint import computation_hash


def test_a_line_through_points_of_a_line() -> None:
    assert fitted([1, 2, 4], [5.0, 8.0, 14.0]) == pytest.approx((3.0, 2.0))


def test_axes_do_more_the_more_there_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model, seen, compared = tiny_sam(), list[int](), list[str]()
    axes = axes_of(model, TINY, tmp_path)
    assert set(axes) == {
        *("calibration", "calibration on 4 images", "evaluation", "prediction"),
        *("comparison at one level", "comparison of one method"),
    }
    encoder_of(model).register_forward_pre_hook(lambda _, args: seen.append(len(args[0])))
    for count in (2, 4):
        axes["evaluation"].run(count, tmp_path)
        axes["prediction"].run(count, tmp_path)
    # an evaluation encodes each of its images, a prediction its one image whatever the boxes
    assert (sum(seen), seen.count(1)) == (2 + 1 + 4 + 1, 2)
    monkeypatch.setattr(growth, "plan", lambda model, level, method, statistics: compared.append(f"{method} {level}"))
    monkeypatch.setattr(growth, "prune", lambda *_: tiny_sam())
    monkeypatch.setattr(growth.Corrector, "correct_all", lambda _self, smalls: None)
    axes["comparison at one level"].run(2, tmp_path)
    axes["comparison of one method"].run(2, tmp_path)
    assert compared == [
        *(f"{METHODS[0]} h40_m30", f"{METHODS[1]} h40_m30"),
        *(f"{METHODS[0]} h40_m30", f"{METHODS[0]} h50_m70"),
    ]


def test_models_of_fewer_blocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calibrated = list[int]()
    axes = axes_of(tiny_sam(), TINY, tmp_path)
    monkeypatch.setattr(growth, "calibrate", lambda model, **_: calibrated.append(len(blocks_of(model))))
    for count in (axis := axes["calibration on 4 images"]).counts:
        axis.run(count, tmp_path)
    assert calibrated == list(axis.counts) == [1, 2, 4]


def test_what_is_told_of_an_axis(monkeypatch: pytest.MonkeyPatch) -> None:
    model, ran = tiny_sam(), list[int]()
    before = computation_hash(model)
    axis = Axis("things", (1, 2, 4), lambda count, _: ran.append(count))
    monkeypatch.setattr(growth, "axes_of", lambda *_: {"things": axis})
    found = measure(model, TINY, repeats=1)
    assert ran == [1, 2, 4] * 2
    assert found["pass_ms"] > 0
    told = found["axes"]["things"]
    assert (told["unit"], told["counts"], len(told["times"]), len(told["spread"])) == ("things", [1, 2, 4], 3, 3)
    assert computation_hash(model) == before


def test_the_command_draws_what_it_found(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    line = {"unit": "images", "counts": [1, 2], "times": [3.0, 5.0], "spread": [[2.0, 4.0], [5.0, 5.0]]}
    axes = {name: {**line, "each": 2.0, "fixed": 1.0, "off": 0.0} for name in ("first", "second")}
    monkeypatch.setattr(growth, "measure", lambda *_: {"pass_ms": 1.0, "axes": axes})
    out = tmp_path / "growth.json"
    result = CliRunner().invoke(command, ["--repeats", "1", "--out", str(out)], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    assert json.loads(out.read_text())["axes"] == axes
    figure = (tmp_path / "growth.svg").read_text()
    assert figure.startswith("<?xml")
    # names are drawn as paths, with the text in a comment
    assert all(f"<!-- {words} -->" in figure for words in ("first", "second", "2.00 each", "images"))
