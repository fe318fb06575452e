"""`medcore-bench tune`: settle the open settings once, on phantom validation images, as many trials for every method.

Test images are never looked at. A method's score in a trial is its Boundary F1, averaged over validation sets and
levels, without recovery. The best trial is what the defaults are then set to, by hand, in `defaults.py` and in the
baselines, and frozen for everything else, real images too (METHOD section 9).
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import click

from ..._support.memo import Ledger
from ..._support.progress import track
from ...calibration.statistics import Statistics
from ...pruning.level import COMPARISON_LEVELS
from ...pruning.plan import Plan
from ...pruning.surgery import prune
from ...scoring.recipes import get_baseline
from ...zoo import NOTICE
from ..report.tables import Grid
from ..runner.inputs import Inputs
from .study import Study, write_study

Trial = Mapping[str, Any]

_MEDCORE: tuple[Trial, ...] = (
    {"alpha": "balanced", "beta": 1.0, "lambda_b": 5.0, "tau": 0.5},
    {"alpha": 0.5, "beta": 1.0, "lambda_b": 5.0, "tau": 0.5},
    {"alpha": "balanced", "beta": 0.0, "lambda_b": 5.0, "tau": 0.5},
    {"alpha": "balanced", "beta": 1.0, "lambda_b": 20.0, "tau": 0.5},
    {"alpha": "balanced", "beta": 1.0, "lambda_b": 5.0, "tau": 0.25},
    {"alpha": "balanced", "beta": 1.0, "lambda_b": 5.0, "quotas": "uniform"},
)
_QUOTAS: tuple[Trial, ...] = (
    {"quotas": "uniform"},
    *({"quotas": "sensitivity", "tau": tau} for tau in (0.1, 0.25, 0.5, 0.75, 1.0)),
)

TRIALS: dict[str, tuple[Trial, ...]] = {
    "magnitude": tuple({"p": p} for p in (0.5, 1.0, 1.5, 2.0, 3.0, 4.0)),
    "zero_fisher": tuple(
        {"lambda_b": lambda_b, **quotas}
        for lambda_b in (1.0, 5.0, 20.0)
        for quotas in ({"quotas": "uniform"}, {"quotas": "sensitivity", "tau": 0.5})
    ),
    "vanilla_fisher": _QUOTAS,
    "original_medcore": _QUOTAS,
    "medcore": _MEDCORE,
    "directional": (
        {"alpha": "balanced", "tau": 0.25},
        {"alpha": 0.9, "tau": 0.25},
        {"alpha": 1.0, "tau": 0.25},
        {"alpha": 1.0, "tau": 0.5},
        {"alpha": 1.0, "lambda_b": 20.0, "tau": 0.25},
        {"alpha": 1.0, "quotas": "uniform"},
    ),
    "boundary_mask_fisher": (
        *({"lambda_b": lambda_b, "aggregation": "pooled"} for lambda_b in (1.0, 5.0, 20.0)),
        *({"lambda_b": lambda_b, "aggregation": "mean_std", "beta": 0.0} for lambda_b in (1.0, 5.0)),
        {"lambda_b": 5.0, "aggregation": "mean_std", "beta": 1.0},
    ),
    "residual": (
        {"rounds": 1, "tokens": "alike", "quotas": "uniform"},
        {"rounds": 64, "tokens": "alike", "quotas": "uniform"},
        {"rounds": 64, "tokens": "alike", "quotas": "sensitivity", "tau": 0.25},
        {"rounds": 64, "tokens": "alike", "quotas": "sensitivity", "tau": 0.5},
        {"rounds": 64, "tokens": "by_gradient", "quotas": "uniform"},
        {"rounds": 64, "tokens": "by_gradient", "quotas": "sensitivity", "tau": 0.25},
    ),
}
"""What is tried; `zero_fisher_full` follows `medcore`, from which it differs in one thing, and `random` has nothing."""


@dataclass(frozen=True)
class Outcome:
    """One trial: Boundary F1 of each level, the mean over validation sets, and `bf1`, the mean over levels too."""

    method: str
    settings: Trial
    bf1: float
    by_level: Mapping[str, float]


class _Judge:
    """Scores plans on the validation sets, each distinct plan once; a killed run finds its scores in `place` again."""

    def __init__(self, study: Study, place: Path) -> None:
        self._study = study
        self._scores = Ledger(place, study.identity, "bf1")

    def bf1(self, plan: Plan) -> float:
        return float(self._scores.get_or_make(plan.hash, lambda: self._measured(plan)))

    def _measured(self, plan: Plan) -> float:
        means = self._study.bf1(prune(self._study.inputs.adapted, plan)).values()
        return float(sum(means) / len(means))


def tune(
    study: Study, statistics: Statistics | None, place: Path, trials: Mapping[str, Sequence[Trial]] = TRIALS
) -> list[Outcome]:
    """Run every trial, an outcome each, in order; `place` is the file of the scores so far."""
    judge = _Judge(study, place)
    jobs = [(method, trial) for method, several in trials.items() for trial in several]
    outcomes = []
    for method, trial in track(jobs, "trials", total=len(jobs)):
        plans = study.plans(get_baseline(method).with_settings(**trial), COMPARISON_LEVELS, statistics)
        by_level = {str(level): judge.bf1(plan) for level, plan in zip(COMPARISON_LEVELS, plans, strict=True)}
        outcomes.append(Outcome(method, trial, sum(by_level.values()) / len(by_level), by_level))
    return outcomes


def best(outcomes: Sequence[Outcome]) -> dict[str, Outcome]:
    """Return each method's best outcome, the first of equals."""
    chosen: dict[str, Outcome] = {}
    for outcome in outcomes:
        if outcome.method not in chosen or outcome.bf1 > chosen[outcome.method].bf1:
            chosen[outcome.method] = outcome
    return chosen


def _words(trial: Trial) -> str:
    return ", ".join(f"{name} {value}" for name, value in trial.items())


def _page(outcomes: Sequence[Outcome], inputs: Inputs, samples: int) -> str:
    chosen = best(outcomes)
    images = sum(len(each) for each in inputs.sets.values())
    levels = list(outcomes[0].by_level)
    rows = [
        [
            outcome.method,
            _words(outcome.settings),
            f"{outcome.bf1:.4f}",
            *(f"{outcome.by_level[level]:.4f}" for level in levels),
            "best" if chosen[outcome.method] is outcome else "",
        ]
        for outcome in outcomes
    ]
    title = f"Boundary F1 on {images} phantom validation images"
    grid = Grid(title, ["method", "settings", "mean", *levels, ""], rows, footer=[NOTICE], left=2)
    return _PREAMBLE.format(sets=", ".join(inputs.sets), samples=samples) + grid.markdown()


_PREAMBLE = """# How the defaults were settled

Written by `medcore-bench tune`; not edited by hand.

Every method below got the same number of trials on *validation* images of {sets}, with {samples} calibration images a
set and no recovery; test images were not looked at. The score is Boundary F1 (2 px on the 256 grid), averaged over sets
and levels. The best trial of a method is its default from then on, for real images too. Not tuned: `random`, which has
nothing to tune; `taylor`, `disturbed_taylor`, `wanda`, `lamp` and `mask_fisher`, yardsticks from outside, as published;
`zero_fisher_full`, which follows `medcore` with alpha 1; `medcore_untuned`, which keeps alpha 0.5, beta 1, tau 0.

"""


def run(images: int, calibration: int, device: str, cache: Path, out: Path) -> None:
    """Settle the open settings on phantom validation images, as many trials for every method."""
    study = Study.load(out, device, cache, images, calibration)
    tried = [get_baseline(method).with_settings(**trial) for method, several in TRIALS.items() for trial in several]
    so_far = out.with_suffix(".scores.json")
    outcomes = tune(study, study.statistics(tried), so_far)
    for method, outcome in best(outcomes).items():
        click.echo(f"{method}: {_words(outcome.settings)} (BF1 {outcome.bf1:.4f})")
    stored = {"notice": NOTICE, "trials": [asdict(outcome) for outcome in outcomes]}
    write_study(out, stored, _page(outcomes, study.inputs, calibration), so_far)
