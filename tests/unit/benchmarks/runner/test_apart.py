"""A model that another process makes is the one that this process would make, and leaves nothing behind."""

import pickle
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from pocket_pair import write_pair

from medcore_prune._support.errors import DataError
from medcore_prune.benchmarks.experiments.main import Main
from medcore_prune.benchmarks.runner.apart import Order, make
from medcore_prune.benchmarks.runner.inputs import load_inputs
from medcore_prune.benchmarks.runner.settings import COUNTS, Settings
from medcore_prune.benchmarks.runner.store import ResultStore
from medcore_prune.pruning.level import Level


def experiment(place: Path) -> Main:
    write_pair(place)
    models = {"adapted": str(place / "adapted.pth"), "reference": str(place / "reference.pth")}
    counts = replace(COUNTS["quick"], phantom_images=2, calibration=2, correction=2, training=4)
    few: dict[str, Any] = {
        "counts": counts,
        "validation": 2,
        "recovery_batch": 2,
        "methods": ("medcore",),
        "gallery": False,
    }
    settings = Settings(place / "out", **few, **models)
    made = Main(settings, "medcore", (Level.parse("h50_m70"),), (), True, 1, schedule="one-shot", starts="all")
    made.methods, made.inputs, made.store = made.choose(), load_inputs(settings), ResultStore(place / "out")
    return made


def test_it_is_the_model_that_is_made_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()
    here = experiment(tmp_path)
    order = pickle.loads(pickle.dumps(Order.of(here)))
    for item in here.items():
        expected = item.make()
        (made,) = make(order, item.name)
        assert made.plan.hash == expected.plan.hash
        values = expected.model.state_dict()
        assert all(torch.equal(value, values[name]) for name, value in made.model.state_dict().items())
        assert [stage.name for stage in made.stages] == [stage.name for stage in expected.stages]
        assert not list((tmp_path / "temporary").glob("medcore-bench-*"))


def test_other_inputs_at_the_same_place_are_refused(tmp_path: Path) -> None:
    here = experiment(tmp_path)
    order = Order.of(here)
    other = Order(order.kind, order.settings, order.own, (*order.hashes[1:], ("adapted", "another")))
    with pytest.raises(DataError, match="is not what the command reads"):
        next(make(other, here.items()[0].name))
