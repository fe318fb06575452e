"""Which methods take part, in which order and over which seeds."""

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import pytest

from medcore_prune._support.errors import RegistryError, UnreadableError
from medcore_prune._support.registry import code_of
from medcore_prune.benchmarks.runner import methods
from medcore_prune.benchmarks.runner.evaluate import duration
from medcore_prune.benchmarks.runner.methods import choose_methods, require_reference, without_reference
from medcore_prune.benchmarks.runner.settings import COUNTS, Settings
from medcore_prune.scoring.registry import criteria


def _settings(**given: object) -> Settings:
    return Settings(out=Path("unused"), **given)  # type: ignore[arg-type]


def test_lots_come_first_and_the_subject_last() -> None:
    names = [method.name for method in choose_methods(_settings())]
    assert names[:3] == ["random", "lamp", "magnitude"]
    assert names[-1] == "medcore"
    assert {"zero_fisher", "vanilla_fisher", "original_medcore", "zero_fisher_full"} <= set(names)
    assert "exact" not in names


def test_another_subject_comes_last() -> None:
    chosen = choose_methods(_settings(methods=("magnitude", "medcore", "random"), subject="magnitude"))
    assert [method.name for method in chosen] == ["random", "medcore", "magnitude"]


def test_a_slow_method_takes_part_when_it_is_named() -> None:
    assert [method.name for method in choose_methods(_settings(methods=("exact",)))] == ["exact"]


def test_seeds_belong_to_lots_and_to_calibration_samples() -> None:
    chosen = choose_methods(_settings(methods=("random", "magnitude", "zero_fisher"), seeds=3))
    assert {method.name: len(method.seeds) for method in chosen} == {"random": 5, "magnitude": 1, "zero_fisher": 3}
    assert all(counts.random_seeds >= 5 for counts in COUNTS.values())


def test_an_unknown_method_is_named_with_the_nearest() -> None:
    with pytest.raises(RegistryError, match="did you mean 'medcore'"):
        choose_methods(_settings(methods=("medcor",)))


def test_methods_that_need_a_reference_are_refused_without_one() -> None:
    chosen = choose_methods(_settings(methods=("random", "zero_fisher", "medcore")))
    require_reference(chosen, True)
    said = r"medcore compares .*give --reference FILE \(pocket for .*\), or --methods random,zero_fisher"
    with pytest.raises(UnreadableError, match=said):
        require_reference(chosen, False)
    with pytest.raises(UnreadableError, match="or a method that reads none, such as zero_fisher"):
        require_reference(chosen[-1:], False)


def test_methods_that_need_no_reference_stay() -> None:
    chosen = choose_methods(_settings(methods=("random", "zero_fisher", "directional", "medcore")))
    assert [method.name for method in without_reference(chosen)] == ["random", "zero_fisher"]


def test_durations_are_read_easily() -> None:
    assert [duration(s) for s in (59.6, 200, 7300)] == ["60 s", "3 min", "2.0 h"]


def test_counts_grow_with_the_run() -> None:
    small, usual, full = COUNTS.values()
    assert small.calibration < usual.calibration < full.calibration
    assert replace(usual, calibration=full.calibration) != usual


# as results of earlier versions hold them: a rewrite of a built-in criterion that scores alike keeps them
FINGERPRINTS = {
    "medcore": "0ea16cd1fb7c410aed140a258b6941223cbccc7b219136cd84971d46dd96eae8",
    "zero_fisher_full": "06777807ead207dcc595427ff4d28bd467ebc59fc70f22bb38bb53013eee8565",
    "residual": "bc01961d2f8eb4b774ab45d9a0de93d4567c39b0c4c4f3957d481d6a7274ef0d",
    "exact": "6cddf0b839beaaff12b0ccbadfe1afe6cc7d977ac3635271fc11c0aa69c25a16",
    "random": "5d945198cf4c5512df9b268425701e0fc5989baeba321d541369e459bb769bc5",
    "zero": "b20fc4d019ec7fa9a6f5812a5a17386468803904c842d7a4af73e5d5611a6706",
    "wanda": "2c840e56bc1cb0b23ddb5e668417d70c018ed759663ad7cbcdf84d660f53a0d7",
}


def test_stored_results_of_built_in_methods_are_still_theirs() -> None:
    found = {method.name: method.fingerprint for method in choose_methods(_settings(methods=tuple(FINGERPRINTS)))}
    assert found == FINGERPRINTS
    other = replace(choose_methods(_settings(methods=("medcore",)))[0], name="variant")
    changed = replace(other, recipe=other.recipe.with_settings(alpha=0.3, reset_fisher="adapted"))
    assert changed.fingerprint == "83cc86f243f7b6615e0ef0dd3a18a3b3a78c727e3159cec969e14e0c5bc99d0f"


def test_code_is_on_record_of_built_in_criteria_as_they_are() -> None:
    kept = json.loads(Path(methods.__file__).with_name("code_of_criteria.json").read_text())
    # a new one needs no entry: its own code stands for it until it is rewritten
    for name, entry in kept.items():
        assert criteria.info(name).origin == "built-in"
        now = code_of(getattr(criteria.get(name), "function", criteria.get(name)))
        assert entry["scores_as"] == hashlib.sha256(now.encode()).hexdigest(), (
            f"{name} was edited: if it scores as before, note its hash, else take the entry out"
        )


def test_an_edited_criterion_does_not_take_what_is_stored(monkeypatch: pytest.MonkeyPatch) -> None:
    medcore = choose_methods(_settings(methods=("medcore",)))[0]
    monkeypatch.setattr(methods, "code_of", lambda value: "class Medcore: ...")
    assert medcore.fingerprint != FINGERPRINTS["medcore"]
