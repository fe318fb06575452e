"""What a person sees who lets Python show an object: a line, not its contents."""

import pytest
from tiny import tiny_sam
from tiny_samples import TinySamples

import medcore_prune as mp


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    model, data = tiny_sam(), {"a": TinySamples("a", 8)}
    plan = mp.plan(model, "h50_m50", "magnitude")
    small = mp.prune(model, plan)
    split = mp.data.split(data)
    settings = mp.RecoverySettings(steps=1, batch_size=2)
    drawn = mp.data.phantoms.make("phantom_skin", seed=1, count=3, size=48)
    return {
        "plan": repr(plan),
        "cost": repr(mp.count(model)),
        "correction": repr(mp.correct(small, model, data, progress=False)),
        "recovery": repr(mp.recover(small, model, data, settings, progress=False)),
        "split": repr(split),
        "subset": repr(split.train["a"]),
        "phantoms": repr(drawn),
        "sample": repr(drawn[0]),
        "arrays": repr(mp.data.arrays("mine", [drawn[0].image], [drawn[0].mask])),
        "automatic": repr(mp.automatic_plan(model, "params=20%", "magnitude", data=data, progress=False)),
    }


def test_one_line_each(shown: dict[str, str]) -> None:
    assert {name: text for name, text in shown.items() if len(text) > 320 or "\n" in text} == {}


def test_it_says_what_matters(shown: dict[str, str]) -> None:
    assert shown["plan"].startswith("Plan('h50_m50', criterion 'magnitude', uniform quotas: ")
    assert shown["split"] == "Split(train {'a': 5}, validation {'a': 1}, test {'a': 2}, seed 0)"
    assert shown["subset"] == "Subset('a', 5 of 8 samples)"
    assert shown["phantoms"] == "PhantomSet('phantom_skin', 3 samples of 48 px, seed 1)"
    assert shown["arrays"] == "ArraySet('mine', 1 samples)"
