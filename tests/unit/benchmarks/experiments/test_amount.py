"""How much work the comparison is."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from medcore_prune.benchmarks.experiments.amount import amount, estimated_seconds, exact_runs, places
from medcore_prune.benchmarks.runner.evaluate import Evaluator
from medcore_prune.benchmarks.runner.inputs import Inputs
from medcore_prune.benchmarks.runner.methods import choose_methods
from medcore_prune.benchmarks.runner.settings import Settings
from medcore_prune.data import phantoms
from medcore_prune.data.splits.split import FRACTIONS, Split
from medcore_prune.models.groups import groups_of
from medcore_prune.models.segment_anything import build_sam


def test_the_work_is_counted_before_it_starts() -> None:
    settings = Settings(Path("unused"), methods=("random", "magnitude", "medcore"))
    sets = {"phantom_skin": phantoms.make("phantom_skin", count=3)}
    inputs = Inputs(
        build_sam("pocket", device="meta"),
        None,
        sets,
        lambda _: sets,
        True,
        True,
        Split({}, {}, dict(sets), 0, FRACTIONS),
    )
    chosen = choose_methods(settings)
    # of other methods, levels and data sets than this comparison's: they do not shorten it
    others = places(choose_methods(replace(settings, methods=("lamp",))), ["phantom_skin"], settings)
    others |= places(chosen, ["phantom_polyp_a"], settings)
    mine = [cell for cell in places(chosen, sets, settings) if cell.method == "medcore"]
    work = amount(chosen, inputs, settings, [*(cell for cell in others if cell.mode != "any"), *mine])
    # 4 levels x 7 seeds x 2 modes, one seed of each of 3 methods corrected, two floors and the unpruned model
    assert work.cells == 4 * 7 * 2 + 4 * 3 + 3
    assert work.plans == 4 * (5 + 1 + 2) + 1
    assert (work.predictions, work.stored) == (3 * (33 + 12), 4 * (2 + 1))
    # a search adds a plan of each method and level, the first seed alone of a stochastic one
    searched = replace(settings, search=True)
    work = amount(chosen, inputs, searched, [])
    assert work.cells == 4 * 7 * 2 + 4 * 3 + 4 * 3 + 3
    assert (work.searched, work.corrected) == (12, 24)


def test_a_method_that_runs_the_network_for_every_unit_is_in_the_estimate(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = Settings(Path("unused"), methods=("exact", "magnitude"), correct=False)
    sets = {"phantom_skin": phantoms.make("phantom_skin", count=3)}
    model = build_sam("pocket", device="meta")
    inputs = Inputs(model, None, sets, lambda _: sets, True, True, Split({}, {}, dict(sets), 0, FRACTIONS))
    chosen = choose_methods(settings)
    quick = [method for method in chosen if method.name != "exact"]
    blocks = len(groups_of(model)) // 2
    # each unit of block b runs the blocks from b on, on each of three images
    runs = sum((blocks - group.block) / blocks for group in groups_of(model) for _ in range(group.n_units)) * 3
    assert exact_runs(chosen, inputs) == pytest.approx(runs)
    assert exact_runs(quick, inputs) == 0
    monkeypatch.setattr("medcore_prune.benchmarks.experiments.amount.seconds_an_image", lambda _: 0.5)
    evaluator = cast(Evaluator, SimpleNamespace(inputs=inputs, settings=settings))
    seconds = [estimated_seconds(evaluator, each, amount(chosen, inputs, settings, [])) for each in (chosen, quick)]
    assert seconds[0] - seconds[1] == pytest.approx(0.5 * runs)
