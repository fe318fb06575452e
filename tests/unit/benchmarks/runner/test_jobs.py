"""From methods to plans, and what is kept of an earlier run."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

import pytest
import torch
from bench_store import run_record
from tiny import tiny_sam
from tiny_samples import TinySamples
from torch import Tensor, nn

from medcore_prune._support.errors import CriterionError
from medcore_prune.benchmarks.runner import jobs
from medcore_prune.benchmarks.runner.inputs import Inputs
from medcore_prune.benchmarks.runner.jobs import Job, make_jobs, plan_path
from medcore_prune.benchmarks.runner.methods import Method
from medcore_prune.benchmarks.runner.settings import Settings
from medcore_prune.benchmarks.runner.store import CellResult, ResultStore
from medcore_prune.calibration.calibrate import calibrate
from medcore_prune.calibration.collector import Need
from medcore_prune.calibration.statistics import Statistics
from medcore_prune.criteria.random import Random
from medcore_prune.criteria.zero import Zero
from medcore_prune.data.splits.split import FRACTIONS, Split
from medcore_prune.evaluation.memory import Measured
from medcore_prune.models.groups import StructuredGroup
from medcore_prune.pruning.level import Level
from medcore_prune.pruning.planning import plan
from medcore_prune.scoring.criterion import Cost, Criterion
from medcore_prune.scoring.recipes import Baseline


class Slow(Criterion):
    """Counts how often it is asked."""

    cost: ClassVar[Cost] = "slow"
    reads = ("data",)
    asked = 0

    def score_all(self, groups: Sequence[StructuredGroup]) -> list[Tensor]:
        type(self).asked += 1
        return [torch.arange(group.n_units).double() for group in groups]


@pytest.fixture
def inputs() -> Inputs:
    sets = {"tiny": TinySamples("tiny", 2)}
    return Inputs(tiny_sam(), None, sets, lambda _: sets, False, False, Split({}, {}, dict(sets), 0, FRACTIONS))


@pytest.fixture
def store(tmp_path: Path) -> ResultStore:
    return ResultStore.create(tmp_path, run_record())


def _settings(store: ResultStore) -> Settings:
    return Settings(out=store.root, levels=(Level.parse("h50_m70"),))


def _jobs(recipe: Baseline, seeds: tuple[int, ...], inputs: Inputs, store: ResultStore) -> list[Job]:
    return make_jobs([Method("mine", recipe, "user", seeds)], inputs, {}, _settings(store), store)


def _finish(jobs: Sequence[Job], store: ResultStore) -> None:
    for job in jobs:
        metrics = {"dice": 0.5}
        settings = {"method": job.scored_by}
        seconds = {"scoring": 9.0}
        store.write(
            CellResult(job.cell("tiny"), "key", metrics, {}, 2, job.plan.hash, {}, seconds, 77, settings=settings)
        )


def test_every_seed_has_a_plan_a_mode_and_plans_are_files(inputs: Inputs, store: ResultStore) -> None:
    jobs = _jobs(Baseline(Random), (0, 1), inputs, store)
    assert [(job.mode, job.seed) for job in jobs] == [("own", 0), ("same", 0), ("own", 1), ("same", 1)]
    assert jobs[0].plan.hash == jobs[1].plan.hash
    assert jobs[0].plan.hash != jobs[2].plan.hash
    assert plan_path(store, jobs[0].plan.hash).is_file()
    assert jobs[0].scoring.seconds > 0


def test_a_slow_method_that_has_all_its_cells_is_not_asked_again(inputs: Inputs, store: ResultStore) -> None:
    Slow.asked = 0
    first = _jobs(Baseline(Slow), (0,), inputs, store)
    again = _jobs(Baseline(Slow), (0,), inputs, store)
    assert Slow.asked == 2
    _finish(first, store)
    kept = _jobs(Baseline(Slow), (0,), inputs, store)
    assert Slow.asked == 2
    assert [job.plan for job in kept] == [job.plan for job in again]
    assert kept[0].scoring == Measured(9.0, 77)


def test_a_slow_method_whose_code_or_sample_changed_is_asked_again(inputs: Inputs, store: ResultStore) -> None:
    class Reversed(Slow):
        def score_all(self, groups: Sequence[StructuredGroup]) -> list[Tensor]:
            return [-scores for scores in super().score_all(groups)]

    first = _jobs(Baseline(Slow), (0,), inputs, store)
    _finish(first, store)
    assert _jobs(Baseline(Reversed), (0,), inputs, store)[0].plan.hash != first[0].plan.hash
    other = {"tiny": TinySamples("tiny", 3)}
    asked = Slow.asked
    _jobs(Baseline(Slow), (0,), dataclasses.replace(inputs, calibration=lambda _: other), store)
    assert Slow.asked == asked + 1


def test_a_slow_method_whose_plan_is_lost_is_asked_again(inputs: Inputs, store: ResultStore) -> None:
    Slow.asked = 0
    jobs = _jobs(Baseline(Slow), (0,), inputs, store)
    _finish(jobs, store)
    plan_path(store, jobs[0].plan.hash).unlink()
    _jobs(Baseline(Slow), (0,), inputs, store)
    assert Slow.asked == 2


def test_errors_name_the_method(inputs: Inputs, store: ResultStore, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> list[Tensor]:
        raise ZeroDivisionError("by nothing")

    monkeypatch.setattr(Slow, "score_all", broken)
    with pytest.raises(CriterionError, match=r"mine failed: ZeroDivisionError: by nothing \(test_jobs"):
        _jobs(Baseline(Slow), (0,), inputs, store)


def test_unusable_scores_name_the_method(inputs: Inputs, store: ResultStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Slow, "score_all", lambda self, groups: [])
    with pytest.raises(CriterionError, match=r"mine: Slow returned 0 score tensors"):
        _jobs(Baseline(Slow), (0,), inputs, store)


def test_block_sensitivity_is_worked_out_once_for_all_that_share_it(
    inputs: Inputs, store: ResultStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[float, Need]] = []
    whole = jobs.block_sensitivity

    def counting(statistics: Statistics, model: nn.Module, lambda_b: float, source: Need) -> list[float]:
        asked.append((lambda_b, source))
        return whole(statistics, model, lambda_b, source)

    monkeypatch.setattr(jobs, "block_sensitivity", counting)
    recipes = {
        "alike": Baseline(Random, quotas="sensitivity"),
        "steeper": Baseline(Random, quotas="sensitivity", tau=1.0),
        "plain": Baseline(Zero, {"lambda_b": 0.0}, quotas="sensitivity"),
        "by_slopes": Baseline(Random, quotas="sensitivity", sensitivity=Need.DIRECTIONAL_ZERO),
        "uniform": Baseline(Random),
    }
    methods = [Method(name, recipe, "user", (0, 1)) for name, recipe in recipes.items()]
    needs = {Need.FISHER, Need.DIRECTIONAL_ZERO}
    read = calibrate(inputs.adapted, data=inputs.sets, needs=needs, cache_dir=store.root / "sums", progress=False)
    made = make_jobs(methods, inputs, {0: read}, _settings(store), store, ("own",))
    assert len(asked) == len(set(asked)) == 3
    plans = {(job.method, job.seed): job.plan for job in made}
    for method in methods:
        for seed in method.seeds:
            alone = plan(inputs.adapted, "h50_m70", method.recipe, statistics=read, seed=seed)
            assert plans[method.name, seed].hash == alone.hash
