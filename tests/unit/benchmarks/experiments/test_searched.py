"""Searched budgets of the comparison: what the levels of a method share is done once."""

import pickle
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import pytest
from bench_store import run_record
from tiny import tiny_sam
from tiny_samples import TinySamples

from medcore_prune._support.machines import executor as executors
from medcore_prune._support.machines.executor import Serial
from medcore_prune.benchmarks.experiments import searched
from medcore_prune.benchmarks.experiments.searched import searched_jobs, searched_plans
from medcore_prune.benchmarks.runner.inputs import Inputs
from medcore_prune.benchmarks.runner.jobs import Treatment, keep_plan, scores_of
from medcore_prune.benchmarks.runner.methods import Method
from medcore_prune.benchmarks.runner.settings import Settings
from medcore_prune.benchmarks.runner.store import CellResult, ResultStore
from medcore_prune.correction.search.refits import DenseSums
from medcore_prune.data.splits.split import FRACTIONS, Split
from medcore_prune.pruning.level import Level
from medcore_prune.scoring.recipes import get_baseline

SETS = {"tiny": TinySamples("tiny", 2)}
INPUTS = Inputs(tiny_sam(), None, SETS, lambda _: SETS, False, False, Split({}, {}, dict(SETS), 0, FRACTIONS))
RECIPE = get_baseline("magnitude")
METHOD = Method("magnitude", RECIPE, "built in", (0,))
TREATMENT = Treatment("alike", lambda model, plans: [model for _ in plans])


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What was done, in order."""
    done: list[str] = []
    read, scored = DenseSums.read, scores_of
    monkeypatch.setattr(DenseSums, "read", lambda self, progress: (done.append("streams"), read(self, progress))[1])
    monkeypatch.setattr(searched, "scores_of", lambda *args: (done.append("scores"), scored(*args))[1])
    return done


def settings(store: ResultStore, *levels: str) -> Settings:
    return Settings(out=store.root, levels=tuple(map(Level.parse, levels)), generations=1)


def finish(store: ResultStore, job: object) -> None:
    keep_plan(store, job.plan)  # type: ignore[attr-defined]
    cell = job.cell("tiny")  # type: ignore[attr-defined]
    found = {"method": job.scored_by}  # type: ignore[attr-defined]
    store.write(CellResult(cell, "key", {"dice": 0.5}, {}, 2, job.plan.hash, {}, {"scoring": 9.0}, 77, settings=found))  # type: ignore[attr-defined]


def test_the_levels_of_a_method_are_scored_and_refitted_once(tmp_path: Path, asked: list[str]) -> None:
    store = ResultStore.create(tmp_path / "out", run_record())
    jobs = list(
        searched_jobs([METHOD], INPUTS, settings(store, "h50_m70", "h50_m50", "h25_m30"), {}, store, TREATMENT, {})
    )
    assert asked == ["scores", "streams"]
    assert [job.level for job in jobs] == ["h50_m70", "h50_m50", "h25_m30"]
    assert len({job.plan.hash for job in jobs}) == 3
    # a level that an earlier run found is not searched, and where all are there nothing is read
    for job in jobs[:2]:
        finish(store, job)
    asked.clear()
    again = list(searched_jobs([METHOD], INPUTS, settings(store, "h50_m70", "h50_m50"), {}, store, TREATMENT, {}))
    assert asked == []
    assert [job.plan for job in again] == [job.plan for job in jobs[:2]]


def test_scores_that_are_there_are_taken(tmp_path: Path, asked: list[str]) -> None:
    store = ResultStore.create(tmp_path / "out", run_record())
    scores = {("magnitude", 0): scores_of(RECIPE, INPUTS, None)}
    (job,) = searched_jobs([METHOD], INPUTS, settings(store, "h50_m70"), {}, store, TREATMENT, scores)
    assert asked == ["streams"]
    other = ResultStore.create(tmp_path / "other", run_record())
    (fresh,) = searched_jobs([METHOD], INPUTS, settings(other, "h50_m70"), {}, other, TREATMENT, {})
    assert job.plan == fresh.plan


class Elsewhere(Serial):
    """Runs jobs as another process would get them."""

    apart = True

    def __init__(self) -> None:
        self.names: list[str] = []

    def map(
        self, function: Callable[[Any, Any], Iterable[Any]], context: Any, jobs: Mapping[str, Any]
    ) -> Iterator[Any]:
        self.names += jobs
        yield from super().map(*pickle.loads(pickle.dumps((function, context, dict(jobs)))))


def test_states_run_elsewhere_to_the_same_plans(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def plans(name: str) -> list[object]:
        store = ResultStore.create(tmp_path / name, run_record())
        return list(searched_plans(INPUTS, settings(store, "h50_m70"), RECIPE, None, ("params",), 1))

    here, elsewhere = plans("here"), Elsewhere()
    monkeypatch.setattr(executors, "_EXECUTOR", ContextVar("_EXECUTOR", default=elsewhere))
    assert plans("elsewhere") == here
    assert "state 1 of a searched budget" in elsewhere.names
