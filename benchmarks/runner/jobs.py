"""Scores to plans: what each method would remove at each level, in both quota modes."""

import hashlib
from collections.abc import Callable, Iterator, Mapping, MutableMapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from itertools import takewhile
from pathlib import Path
from typing import TypeAlias

import numpy as np
import torch
from torch import Tensor, nn

from ..._support.memo import Memo
from ..._support.progress import track
from ..._support.records import content_hash
from ..._support.registry import BUILT_IN, failures_named
from ..._support.version import __version__
from ...calibration.collector import Need
from ...calibration.sensitivity import block_sensitivity
from ...calibration.statistics import Statistics
from ...evaluation.memory import Measured, measured
from ...models.groups import Family, groups_of
from ...pruning.plan import Plan
from ...pruning.planning import planner
from ...pruning.surgery import prune
from ...scoring.criterion import unit_scores
from ...scoring.recipes import Baseline
from .inputs import Inputs, sample_hash
from .methods import Method
from .settings import QUOTA_MODES, Mode, Settings
from .store import Cell, ResultStore, arrays

EXPERIMENT = "baselines"
Scores: TypeAlias = Mapping[tuple[int, Family], Tensor]


@dataclass(frozen=True)
class Treatment:
    """How an unpruned model and plans become the models that are evaluated, where there is more to it than cutting.

    `key` is a hash of all that one of them depends on besides the two; up to `at_once` are best made together.
    """

    key: str
    build: Callable[[nn.Module, Sequence[Plan]], Sequence[nn.Module]]
    at_once: int = 1


@dataclass(frozen=True)
class Job:
    """One plan of one method, to be evaluated on the data sets that are named, or on all.

    `mode` is one of the experiment's, `seed` that of the method or of its calibration sample, `scoring` what scoring
    took, the same for all plans of a method and seed; for `scored_by` see the function.
    """

    method: str
    mode: str
    level: str
    seed: int
    plan: Plan
    scoring: Measured
    scored_by: str = ""
    treatment: Treatment | None = None
    experiment: str = EXPERIMENT
    datasets: tuple[str, ...] = ()

    @property
    def masks(self) -> str:
        """What tells this model's masks from those of any other one."""
        return self.plan.hash if self.treatment is None else f"{self.plan.hash}+{self.treatment.key}"

    def cell(self, dataset: str) -> Cell:
        """Where the result on a data set belongs."""
        return Cell(self.experiment, self.mode, self.method, self.level, dataset, self.seed)


def built(model: nn.Module, jobs: Sequence[Job]) -> dict[str, nn.Module]:
    """Make the models that the first of some jobs, and those behind it that are best made with it, are evaluated with.

    By `Job.masks`; the unpruned model is not touched.
    """
    treatment = jobs[0].treatment
    if treatment is None:
        return {jobs[0].masks: prune(model, jobs[0].plan)}
    alike = list(takewhile(lambda job: job.treatment is treatment, jobs))[: treatment.at_once]
    models = treatment.build(model, [job.plan for job in alike])
    return {job.masks: each for job, each in zip(alike, models, strict=True)}


Group: TypeAlias = list[tuple[Job, str]]
"""Models that are best made together, each as often as there are data sets to evaluate it on, which are named."""


def grouped(todo: Sequence[tuple[Job, str]]) -> list[Group]:
    """Put together what `built` makes at once."""
    groups: list[Group] = []
    for job, dataset in todo:
        last = groups[-1] if groups else []
        masks, treatment = {each.masks for each, _ in last}, job.treatment
        alike = treatment is not None and last and last[0][0].treatment is treatment and len(masks) < treatment.at_once
        if job.masks in masks or alike:
            last.append((job, dataset))
        else:
            groups.append([(job, dataset)])
    return groups


def make_jobs(
    methods: Sequence[Method],
    inputs: Inputs,
    statistics: Mapping[int, Statistics],
    settings: Settings,
    store: ResultStore,
    modes: Sequence[Mode] = QUOTA_MODES,
    experiment: str = EXPERIMENT,
    keep: MutableMapping[tuple[str, int], Scores] | None = None,
) -> list[Job]:
    """Score every method under every seed and plan every level and mode; plans are stored as files.

    Scores of built-in methods that read statistics are kept in files, kilobytes, and statistics are read for those
    alone that are not there. Others are quick to take, or of code that may change where no hash tells: a run that is
    gone on with takes them again, and a method that changed arrives at other plans, of which only the new ones are
    evaluated. Slow methods keep the plans they have, as long as their code, settings and calibration sample are the
    same. `keep` is given the scores by method and seed.
    """
    keep = {} if keep is None else keep
    rounds = [(method, seed) for method in methods for seed in method.seeds]
    memos = {
        (method.name, seed): kept_scores(method, seed, inputs, settings, store)
        for method, seed in rounds
        if method.needs and method.origin == BUILT_IN
    }
    known = {key: found for key, memo in memos.items() if (found := memo.get()) is not None}
    for method, seed in rounds:
        if method.needs and (method.name, seed) not in known:
            # collected before the bar of the scoring is shown, for calibration has its own
            statistics.get(seed % settings.seeds)

    @cache
    def sensitivity(draw: int, lambda_b: float, source: Need) -> tuple[float, ...]:
        """s_b of each block, once for all methods and seeds that read the same."""
        return tuple(block_sensitivity(statistics[draw], inputs.adapted, lambda_b, source))

    jobs: list[Job] = []
    for method, seed in track(rounds, "scoring", total=len(rounds)):
        kept = _stored(method, seed, inputs, settings, store, modes) if method.recipe.cost == "slow" else []
        if not kept:
            key = (method.name, seed)
            scored = known.get(key) or _scored(method, seed, inputs, statistics, settings, sensitivity)
            if key in memos and key not in known:
                memos[key].put(scored)
            keep[key] = scored.scores
            kept = list(_plan(method, seed, scored, inputs, settings, modes))
        jobs += kept
    for job in jobs:
        keep_plan(store, job.plan)
    return [replace(job, experiment=experiment) for job in jobs]


def keep_plan(store: ResultStore, plan: Plan) -> None:
    """Store a plan as a file, where it is not yet."""
    path = plan_path(store, plan.hash)
    if not path.exists():
        plan.save(path)


def plan_path(store: ResultStore, plan_hash: str) -> Path:
    """File of a plan."""
    return store.root / "plans" / f"{plan_hash[:24]}.json"


def stored_plan(cell: Cell, origin: str, store: ResultStore) -> tuple[Plan, Measured] | None:
    """The plan of an earlier result and what it took to make, if the result is there and of the same origin."""
    result = store.read(cell) if store.has(cell) else None
    if result is None or result.settings.get("method") != origin:
        return None
    path = plan_path(store, result.plan)
    taken = Measured(result.seconds.get("scoring", 0.0), result.peak_bytes)
    return (Plan.load(path), taken) if path.is_file() else None


def _stored(
    method: Method, seed: int, inputs: Inputs, settings: Settings, store: ResultStore, modes: Sequence[Mode]
) -> list[Job]:
    """The jobs of an earlier run, if all of them are there."""
    origin = scored_by(method, seed, inputs, settings)
    jobs = []
    for mode in modes:
        for level in map(str, settings.levels):
            cell = Cell(EXPERIMENT, mode, method.name, level, next(iter(inputs.sets)), seed)
            found = stored_plan(cell, origin, store)
            if found is None:
                return []
            jobs.append(Job(method.name, mode, level, seed, *found, origin))
    return jobs


def scored_by(method: Method, seed: int, inputs: Inputs, settings: Settings) -> str:
    """Hash what a method's scores come from: its code, its settings, and what networks compute on which images."""
    if not method.calibrated:
        return method.fingerprint
    sample = sample_hash(inputs.calibration(seed % settings.seeds))
    return hashlib.sha256(f"{method.fingerprint} {sample} {settings.precision}".encode()).hexdigest()


def scores_of(recipe: Baseline, inputs: Inputs, statistics: Statistics | None, seed: int = 0, draw: int = 0) -> Scores:
    """Score all units of the adapted model by what a recipe reads: statistics, or the images of a calibration draw."""
    data = inputs.calibration(draw) if recipe.reads_images else None
    return unit_scores(recipe.build(statistics, inputs.adapted, seed, inputs.reference, data), inputs.adapted)


@dataclass(frozen=True)
class Scored:
    """What the plans of a method and seed are made of.

    `sensitivity` is s_b of each block where the method's quotas fall with it, `scoring` what the scores took.
    """

    scores: Scores
    sensitivity: tuple[float, ...] | None
    scoring: Measured


def kept_scores(method: Method, seed: int, inputs: Inputs, settings: Settings, store: ResultStore) -> Memo[Scored]:
    """Where the scores of a method and seed are kept, by all that they depend on."""
    draw = sample_hash(inputs.calibration(seed % settings.seeds)) if method.calibrated else ""
    models = [inputs.hashes["adapted"], inputs.hashes["reference"]]
    digest = content_hash([method.fingerprint, seed, draw, models, settings.precision, settings.device, __version__])
    file = arrays(store.root / "analysis" / "scores" / f"{method.name}-all-{seed}.npz", digest)

    def read(path: Path) -> Scored | None:
        found = file.read(path)
        if found is None:
            return None
        keys = [(group.block, group.family) for group in groups_of(inputs.adapted)]
        scores = {key: torch.from_numpy(found[f"{key[0]}-{key[1]}"]) for key in keys}
        sensitivity = tuple(map(float, found["sensitivity"])) or None
        return Scored(scores, sensitivity, Measured(float(found["seconds"]), int(found["peak_bytes"])))

    def write(path: Path, scored: Scored) -> None:
        values = {f"{block}-{family}": each.numpy() for (block, family), each in scored.scores.items()}
        about = {"seconds": np.float64(scored.scoring.seconds), "peak_bytes": np.int64(scored.scoring.peak_bytes)}
        file.write(path, {**values, **about, "sensitivity": np.array(scored.sensitivity or (), np.float64)})

    return Memo(file.path, read, write)


def _scored(
    method: Method,
    seed: int,
    inputs: Inputs,
    statistics: Mapping[int, Statistics],
    settings: Settings,
    sensitivity: Callable[[int, float, Need], tuple[float, ...]],
) -> Scored:
    recipe, draw = method.recipe, seed % settings.seeds
    read = statistics.get(draw) if method.needs else None
    with measured() as scoring, failures_named(method.name):
        scores = scores_of(recipe, inputs, read, seed, draw)
    spread = recipe.quotas == "sensitivity" and read is not None
    return Scored(scores, sensitivity(draw, recipe.lambda_b, recipe.sensitivity) if spread else None, scoring)


def _plan(
    method: Method, seed: int, scored: Scored, inputs: Inputs, settings: Settings, modes: Sequence[Mode]
) -> Iterator[Job]:
    recipe = method.recipe
    origin = scored_by(method, seed, inputs, settings)
    for mode in modes:
        spread = recipe if mode == "own" else recipe.with_settings(quotas="uniform")
        named = replace(spread, name=method.name)
        make = planner(inputs.adapted, named, scored.scores, sensitivity=scored.sensitivity)
        for level in settings.levels:
            yield Job(method.name, mode, str(level), seed, make(level), scored.scoring, origin)
