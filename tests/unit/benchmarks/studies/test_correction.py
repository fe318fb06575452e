import inspect
from pathlib import Path

import pytest
from click.testing import CliRunner
from tiny import tiny_sam
from tiny_samples import TinySamples

from medcore_prune.benchmarks.cli import cli
from medcore_prune.benchmarks.commands.studies.correction_study import LEVELS
from medcore_prune.benchmarks.runner.inputs import Inputs
from medcore_prune.benchmarks.studies import correction, study
from medcore_prune.benchmarks.studies.correction import GOAL, PRUNED, UNPRUNED, VARIANTS, Cells, Outcome, page
from medcore_prune.benchmarks.studies.study import Study
from medcore_prune.correction.correct import correct
from medcore_prune.correction.settings import CorrectionSettings
from medcore_prune.data.splits.split import FRACTIONS, Split


def inputs(seed: int = 0) -> Inputs:
    sets = {"a": TinySamples("a", 2), "b": TinySamples("b", 2)}
    train = {"train": TinySamples("train", 3)}
    roles = Split(dict(train), {}, dict(sets), 0, FRACTIONS)
    return Inputs(tiny_sam(seed=seed), None, sets, lambda _: train, False, False, roles)


def cells(place: Path, seed: int = 0) -> Cells:
    return Cells(Study(inputs(seed), 3), place / "cells.json")


def test_variants_are_options_of_the_correction_and_all_differ() -> None:
    options = inspect.signature(correct).parameters
    for variant in VARIANTS.values():
        assert all(set(each) <= set(options) for each in variant)
        assert all(options[name].default != value for each in variant for name, value in each.items())
    assert len({str(variant) for variant in VARIANTS.values()}) == len(VARIANTS)


def test_the_settings_default_to_what_the_signature_says() -> None:
    options = inspect.signature(correct).parameters
    for name, value in vars(CorrectionSettings()).items():
        assert options[name].default == value


def test_a_cell_a_method_level_and_variant(tmp_path: Path) -> None:
    variants = [PRUNED, "corrected", "two rounds"]
    outcomes = cells(tmp_path).run(["random", "magnitude"], LEVELS[:2], variants)
    assert outcomes[0].variant == UNPRUNED
    assert [(o.method, o.level, o.variant) for o in outcomes[1:]] == [
        (method, str(level), variant)
        for method in ("random", "magnitude")
        for level in LEVELS[:2]
        for variant in variants
    ]
    for outcome in outcomes:
        assert set(outcome.by_set) == {"a", "b"}
        assert outcome.bf1 == pytest.approx(sum(outcome.by_set.values()) / 2)
        assert (outcome.seconds is None) == (outcome.variant in (PRUNED, UNPRUNED))


def test_a_killed_study_finds_its_cells_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = cells(tmp_path).run(["random"], LEVELS[:1], ["corrected"])
    monkeypatch.setattr(correction, "correct", lambda *_, **__: pytest.fail("corrected again"))
    monkeypatch.setattr(study, "predict", lambda *_, **__: pytest.fail("predicted again"))
    assert cells(tmp_path).run(["random"], LEVELS[:1], ["corrected"]) == first
    # cells of another model are of no use
    with pytest.raises(pytest.fail.Exception, match="predicted again"):
        cells(tmp_path, seed=3).run(["random"], LEVELS[:1], ["corrected"])


def test_the_page_marks_what_is_close_to_the_unpruned_model() -> None:
    outcomes = [Outcome("", "", UNPRUNED, 0.5, {})]
    outcomes += [
        Outcome("one", "h50_m70", "corrected", 0.5 - GOAL, {}),
        Outcome("other", "h50_m70", "corrected", 0.46, {}),
    ]
    text = page(outcomes, inputs(), 3)
    assert "| corrected | 0.4700 * | 0.4600 |" in text
    assert "a (2), b (2)" in text
    assert "unpruned 0.5000" in text


def test_the_command_refuses_a_variant_that_is_none() -> None:
    result = CliRunner().invoke(cli, ["correction-study", "--variants", "corrected,prayed over"])
    assert result.exit_code == 2
    assert "'prayed over'" in result.output


def test_the_command_writes_page_and_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(study, "load_inputs", lambda _: inputs())
    out = tmp_path / "correction.md"
    arguments = [
        "--methods",
        "random",
        "--levels",
        "h50_m70",
        "--variants",
        "pruned,corrected",
        "--set",
        "calibration=3",
    ]
    result = CliRunner().invoke(cli, ["correction-study", *arguments, "--out", str(out)], catch_exceptions=False)
    assert result.exit_code == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["correction.json", "correction.md"]
