import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from tiny import tiny_sam
from tiny_samples import TinySamples

from medcore_prune.benchmarks.cli import cli
from medcore_prune.benchmarks.runner.inputs import Inputs
from medcore_prune.benchmarks.studies import recovery
from medcore_prune.benchmarks.studies.recovery import (
    LEARNING_RATES,
    OTHER_LEVELS,
    TRIAL_LEVEL,
    WEIGHTS,
    Outcome,
    best,
    recover_all,
    settled,
)
from medcore_prune.calibration.calibrate import calibrate
from medcore_prune.data.splits.split import FRACTIONS, Split
from medcore_prune.scoring.recipes import get_baseline
from medcore_prune.training.settings import RecoverySettings, RecoveryWeights
from medcore_prune.training.store import RecoveryStore

TRIAL, FINAL = RecoverySettings(steps=2, batch_size=1), RecoverySettings(steps=3, batch_size=2)
RECORD = Path(__file__).resolve().parents[4] / "docs" / "recovery_defaults.json"


class Scripted:
    """A study whose recoveries end in what a rule says: short ones like the second rate, long ones the first."""

    def __init__(self, good: str) -> None:
        self.good, self.asked = good, list[tuple[str, str, RecoverySettings]]()

    def recover(self, name: str, level: str, settings: RecoverySettings) -> Outcome:
        self.asked.append((name, level, settings))
        liked = LEARNING_RATES[1] if settings.steps == TRIAL.steps else LEARNING_RATES[0]
        # the last rate is the worst throughout
        bf1 = 0.3 + 0.1 * (settings.learning_rate == liked) + 0.1 * (name == self.good)
        bf1 -= 0.05 * (settings.learning_rate == LEARNING_RATES[-1])
        return Outcome(name, level, settings, bf1, 0.5, 0.2, 1.0, {"loss": [1.0, 0.5]})


@pytest.mark.parametrize("good", list(WEIGHTS))
def test_rates_come_first_then_weights_then_the_leading_rates_for_longer(good: str) -> None:
    study: Any = Scripted(good)
    trials, longer = recover_all(study, TRIAL, FINAL)
    first, *others = WEIGHTS
    assert [(trial.name, trial.level, trial.settings.learning_rate) for trial in trials] == [
        *((first, TRIAL_LEVEL, rate) for rate in LEARNING_RATES),
        *((name, TRIAL_LEVEL, LEARNING_RATES[1]) for name in others),
    ]
    assert all(trial.settings.weights == WEIGHTS[trial.name] for trial in trials)
    assert {(trial.settings.steps, trial.settings.batch_size) for trial in trials} == {(2, 1)}
    slow, fast = LEARNING_RATES[0], LEARNING_RATES[1]
    assert [(each.level, each.settings.learning_rate) for each in longer] == [
        (TRIAL_LEVEL, fast),
        (TRIAL_LEVEL, slow),
        *((level, slow) for level in OTHER_LEVELS),
    ]
    assert {(each.name, each.settings.steps, each.settings.batch_size) for each in longer} == {(good, 3, 2)}
    assert settled(trials, longer) == RecoverySettings(learning_rate=slow, weights=WEIGHTS[good])


def test_the_first_of_equals_is_best() -> None:
    study: Any = Scripted("")
    one = study.recover("a", "h50_m50", TRIAL)
    assert best([one, replace(one, name="b"), replace(one, name="c", bf1=0.1)]) is one


def test_a_small_study_writes_its_page_and_its_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    train, validation = ({role: TinySamples(role, 3)} for role in ("train", "validation"))
    roles = Split(dict(train), {}, {}, 0, FRACTIONS)
    inputs = Inputs(tiny_sam(), tiny_sam(1), validation, lambda _: train, False, False, roles)
    needs = get_baseline("medcore").needs
    statistics = calibrate(inputs.adapted, inputs.reference, train, 2, needs, cache_dir=tmp_path, progress=False)
    study = recovery.Recoveries(inputs, statistics, RecoveryStore(tmp_path / "store"))
    monkeypatch.setattr(recovery, "_study", lambda *_: study)
    monkeypatch.setattr(recovery, "LEARNING_RATES", (1e-3,))
    monkeypatch.setattr(recovery, "WEIGHTS", {name: WEIGHTS[name] for name in ("all", "task alone")})
    out = tmp_path / "page.md"
    options = [
        "--set",
        "trial_steps=2",
        "--set",
        "trial_batch=1",
        "--set",
        "steps=2",
        "--set",
        "batch=1",
        "--out",
        str(out),
    ]
    done = CliRunner().invoke(cli, ["recovery-study", *options], catch_exceptions=False)
    assert done.exit_code == 0
    stored = json.loads(out.with_suffix(".json").read_text())
    assert [trial["name"] for trial in stored["trials"]] == ["all", "task alone"]
    assert set(stored["trials"][1]["curve"]) == {"loss", "dice", "boundary_bce"}
    page = out.read_text()
    assert page.count("best") >= 1
    assert f"{stored['unpruned_bf1']:.4f}" in page
    for outcome in stored["trials"] + stored["longer"]:
        assert f"{outcome['bf1']:.4f}" in page


def test_the_defaults_are_what_the_study_on_record_settled() -> None:
    record = json.loads(RECORD.read_text())
    trials, longer = (list(map(outcome, record[part])) for part in ("trials", "longer"))
    assert {trial.name: trial.settings.weights for trial in trials} == WEIGHTS
    chosen = settled(trials, longer)
    assert RecoverySettings().learning_rate == chosen.learning_rate
    assert RecoverySettings().weights == chosen.weights


def outcome(stored: dict[str, Any]) -> Outcome:
    settings = {**stored["settings"], "weights": RecoveryWeights(**stored["settings"]["weights"])}
    return Outcome(**{**stored, "settings": RecoverySettings(**settings)})
