import json
from pathlib import Path

import pytest

from medcore_prune.baseline import available_baselines, get_baseline
from medcore_prune.benchmarks.tune import TRIALS, Outcome, best


def test_every_method_gets_the_same_number_of_distinct_trials() -> None:
    assert {len(trials) for trials in TRIALS.values()} == {6}
    for trials in TRIALS.values():
        assert len({tuple(sorted(trial.items())) for trial in trials}) == 6


def test_what_is_not_tuned_has_a_reason() -> None:
    untuned = set(available_baselines()) - set(TRIALS)
    # nothing to choose, outside yardstick, or bound to another method's settings
    assert untuned == {"random", "taylor", "medcore_untuned", "zero_fisher_full"}


@pytest.mark.parametrize("method", TRIALS)
def test_trials_vary_tunable_settings_alone(method: str) -> None:
    tunable = {*get_baseline(method).tunable, "tau"}
    for trial in TRIALS[method]:
        assert set(trial) <= tunable
        get_baseline(method).with_settings(**trial)


def test_the_first_of_equals_is_best() -> None:
    outcomes = [Outcome("a", {"p": p}, bf1, {}) for p, bf1 in ((1, 0.2), (2, 0.3), (3, 0.3))]
    outcomes.append(Outcome("b", {}, 0.1, {}))
    assert best(outcomes) == {"a": outcomes[1], "b": outcomes[3]}


@pytest.mark.parametrize("method", TRIALS)
def test_recipes_are_the_best_trials_on_record(method: str) -> None:
    record = json.loads((Path(__file__).resolve().parents[3] / "docs" / "defaults.json").read_text())
    trials = [trial for trial in record["trials"] if trial["method"] == method]
    assert [trial["settings"] for trial in trials] == [dict(trial) for trial in TRIALS[method]]
    chosen = max(trials, key=lambda trial: trial["bf1"])["settings"]
    recipe = get_baseline(method)
    assert {name: recipe.setting(name) for name in chosen} == chosen
