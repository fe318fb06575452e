import json
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import pytest
from click.testing import CliRunner
from tiny import tiny_sam
from tiny_samples import TinySamples

from medcore_prune.benchmarks.cli import cli
from medcore_prune.benchmarks.runner.inputs import Inputs
from medcore_prune.benchmarks.studies import recovery
from medcore_prune.benchmarks.studies.recovery import (
    QUESTIONS,
    Outcome,
    ask_all,
    best,
    first_settings,
    settled,
    stops,
)
from medcore_prune.calibration.calibrate import calibrate
from medcore_prune.data.splits.split import FRACTIONS, Split
from medcore_prune.evaluation.intervals import Interval
from medcore_prune.models.segment_anything import build_sam
from medcore_prune.scoring.recipes import get_baseline
from medcore_prune.training.rate import rated
from medcore_prune.training.settings import RecoverySettings, RecoveryWeights
from medcore_prune.training.store import RecoveryStore

SHORT = RecoverySettings(steps=2, batch_size=1)
RECORD = Path(__file__).resolve().parents[4] / "docs" / "recovery_defaults.json"


def made(question: str, option: str, settings: RecoverySettings, bf1: float) -> Outcome:
    looks = [[0.0, 0.2, 1.0], [2.0, bf1, 0.01]]
    return Outcome(question, option, settings, 0.2, bf1, Interval(bf1 - 0.2, 0.0, 0.3), 2, 1.0, looks)


class Scripted:
    """A study whose recoveries get better by each change that is liked."""

    liked: ClassVar = {"learning_rate": 3e-4, "augmentation": "flips", "weights": RecoveryWeights(1, 1, 0, 0, 0)}

    def __init__(self) -> None:
        self.asked = list[tuple[str, str]]()

    def recover(self, question: str, option: str, settings: RecoverySettings) -> Outcome:
        self.asked.append((question, option))
        good = sum(getattr(settings, name) == value for name, value in self.liked.items())
        return made(question, option, settings, 0.3 + 0.1 * good + 0.001 * settings.steps + 0.01 * settings.batch_size)


def test_questions_are_asked_in_order_and_keep_what_was_answered() -> None:
    study: Any = Scripted()
    asked = ask_all(study, replace(SHORT, steps=30))
    assert study.asked == [(question, option) for question, options in QUESTIONS.items() for option in options]
    chosen = settled(asked)
    assert chosen == replace(SHORT, steps=30, batch_size=2, **Scripted.liked)
    lengths = [each.settings for each in asked if each.question == "length"]
    assert [(each.steps, each.batch_size) for each in lengths] == [(30, 1), (10, 1), (30, 2)]


def test_a_study_begins_with_the_first_options_and_not_with_its_own_answers() -> None:
    first = first_settings(30, 4)
    assert (first.steps, first.batch_size, first.learning_rate) == (30, 4, 1e-3)
    assert (first.augmentation, first.warmup_fraction) == ("full", 0.1)
    # what stood before is among what is tried, so that every question can leave it
    for options in QUESTIONS.values():
        assert recovery.changed(first, next(iter(options.values()))) == first


def test_the_first_of_equals_is_best() -> None:
    one = made("q", "a", SHORT, 0.4)
    assert best([one, replace(one, option="b"), replace(one, option="c", bf1=0.1)]) is one


def test_the_stop_rule_is_held_against_what_came_later() -> None:
    settings = replace(SHORT, steps=50, warmup_fraction=0.0)
    falls = [[0, 0.5, 1.0], [10, 0.4, 0.01], [20, 0.3, 0.01], [30, 0.2, 0.01], [40, 0.1, 0.01], [50, 0.1, 0.01]]
    comes_back = [*falls[:4], [40, 0.6, 0.01], [50, 0.6, 0.01]]
    rises = [[0, 0.5, 1.0], [10, 0.6, 0.01], [20, 0.7, 0.01], [30, 0.7, 0.01], [40, 0.7, 0.01], [50, 0.7, 0.01]]
    curves = [replace(made("q", "a", settings, 0.5), validations=each) for each in (falls, comes_back, rises)]
    found = stops(curves, 2)
    assert (found.stopped, found.wrong) == (2, 1)
    assert found.steps_saved == pytest.approx(2 * 30 / 150)
    assert stops(curves, 5).stopped == 0


def test_a_small_study_writes_its_page_and_its_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    train, validation, choosing = ({role: TinySamples(role, 3)} for role in ("train", "validation", "choosing"))
    roles = Split(dict(train), dict(choosing), {}, 0, FRACTIONS)
    inputs = Inputs(tiny_sam(), tiny_sam(1), validation, lambda _: train, False, False, roles)
    needs = get_baseline("medcore").needs
    statistics = calibrate(inputs.adapted, inputs.reference, train, 2, needs, cache_dir=tmp_path, progress=False)
    study = recovery.Recoveries(inputs, statistics, RecoveryStore(tmp_path / "store"))
    monkeypatch.setattr(recovery, "_study", lambda *_: study)
    few = {"learning rate": QUESTIONS["learning rate"], "augmentation": QUESTIONS["augmentation"]}
    monkeypatch.setattr(recovery, "QUESTIONS", few)
    monkeypatch.setattr(recovery, "TRIAL", "h50_m50")
    out = tmp_path / "page.md"
    options = ["--set", "steps=3", "--set", "batch=1", "--out", str(out)]
    done = CliRunner().invoke(cli, ["recovery-study", *options], catch_exceptions=False)
    assert done.exit_code == 0
    stored = json.loads(out.with_suffix(".json").read_text())
    assert [each["question"] for each in stored["asked"]] == ["learning rate"] * 2 + ["augmentation"] * 2
    page = out.read_text()
    assert f"{stored['unpruned_bf1']:.4f}" in page
    for each in stored["asked"]:
        assert f"{each['bf1']:.4f}" in page
        assert each["gain"]["value"] == pytest.approx(each["bf1"] - each["before"])
        assert each["validations"][0][0] == 0
    # each recovery is made once: the first option of a later question is the answer to the one before
    assert len(list((tmp_path / "store").glob("*/history.json"))) == 2 + 1


def test_the_defaults_are_what_the_study_on_record_settled() -> None:
    record = json.loads(RECORD.read_text())
    asked = list(map(outcome, record["asked"]))
    of_terms = {each.option: each.settings.weights for each in asked if each.question == "terms"}
    assert of_terms == {name: change["weights"] for name, change in QUESTIONS["terms"].items()}
    # whether to stop early is read off the curves
    chosen = replace(settled(asked), patience=RecoverySettings().patience)
    assert chosen == rated(RecoverySettings(), build_sam("pocket"))
    assert not RecoverySettings().patience or stops(asked, RecoverySettings().patience).wrong == 0


def outcome(stored: dict[str, Any]) -> Outcome:
    settings = {**stored["settings"], "weights": RecoveryWeights(**stored["settings"]["weights"])}
    parts = {
        "settings": RecoverySettings(**settings),
        "gain": Interval(**stored["gain"]),
    }
    return Outcome(**{**stored, **parts})
