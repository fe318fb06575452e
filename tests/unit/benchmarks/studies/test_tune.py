import json
from pathlib import Path

import pytest
from tiny import tiny_sam
from tiny_samples import TinySamples

from medcore_prune.benchmarks.runner.inputs import Inputs
from medcore_prune.benchmarks.studies import tune
from medcore_prune.benchmarks.studies.study import Study
from medcore_prune.benchmarks.studies.tune import TRIALS, Outcome, best
from medcore_prune.data.splits.split import FRACTIONS, Split
from medcore_prune.pruning.planning import make_plan
from medcore_prune.scoring.recipes import available_baselines, get_baseline


def test_every_method_gets_the_same_number_of_distinct_trials() -> None:
    assert {len(trials) for trials in TRIALS.values()} == {6}
    for trials in TRIALS.values():
        assert len({tuple(sorted(trial.items())) for trial in trials}) == 6


def test_what_is_not_tuned_has_a_reason() -> None:
    untuned = set(available_baselines()) - set(TRIALS)
    # nothing to choose, yardsticks from outside, or bound to another method's settings
    outside = {"taylor", "disturbed_taylor", "wanda", "lamp", "mask_fisher"}
    assert untuned == {"random", "medcore_untuned", "zero_fisher_full"} | outside


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
    record = json.loads((Path(__file__).resolve().parents[4] / "docs" / "defaults.json").read_text())
    trials = [trial for trial in record["trials"] if trial["method"] == method]
    assert [trial["settings"] for trial in trials] == [dict(trial) for trial in TRIALS[method]]
    chosen = max(trials, key=lambda trial: trial["bf1"])["settings"]
    recipe = get_baseline(method)
    assert {name: recipe.setting(name) for name in chosen} == chosen


def test_a_killed_tuning_finds_its_scores_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sets = {"tiny": TinySamples("tiny", 2)}
    inputs = Inputs(tiny_sam(), None, sets, lambda _: sets, False, False, Split({}, {}, dict(sets), 0, FRACTIONS))
    plan = make_plan(inputs.adapted, "h50_m50")
    place = tmp_path / "scores.json"
    score = tune._Judge(Study(inputs, 2), place).bf1(plan)
    monkeypatch.setattr(tune, "prune", lambda *_: pytest.fail("scored again"))
    assert tune._Judge(Study(inputs, 2), place).bf1(plan) == score
    # scores of another model are of no use
    other = Inputs(tiny_sam(seed=3), None, sets, lambda _: sets, False, False, Split({}, {}, dict(sets), 0, FRACTIONS))
    with pytest.raises(pytest.fail.Exception, match="scored again"):
        tune._Judge(Study(other, 2), place).bf1(plan)
