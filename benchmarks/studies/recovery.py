"""`recovery-study`: settle how corrected models are recovered, on phantom validation images.

Run as `medcore-bench recovery-study`. One corrected model is recovered under one question after another - learning
rate, augmentation, warm-up, terms of Eq. 14, length - with the earlier answers kept. Steps read training images,
weights within a recovery are chosen on one set of validation images and answers on another, so that no answer is better
for having been chosen twice; test images are never looked at. Recoveries are stored by content: a killed study goes on
where it stopped. What it ends in is what the defaults are then set to, by hand, and frozen for everything else, real
images too.
"""

import copy
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import click
import pandas as pd
from torch import nn

from ...calibration.statistics import Statistics
from ...correction.correct import correct
from ...data.splits.split import Split
from ...evaluation.evaluate import evaluate, macro_average
from ...evaluation.intervals import Interval, paired_difference
from ...pruning.planning import plan
from ...pruning.surgery import prune
from ...scoring.recipes import get_baseline
from ...training.record import declined
from ...training.settings import AUGMENTATION_NAMES, RecoverySettings, RecoveryWeights
from ...training.store import RecoveryStore
from ...zoo import NOTICE
from ..report.tables import Grid, estimate
from ..runner.inputs import Inputs
from ..runner.settings import SUBJECT
from .study import Study, write_study

Options = Mapping[str, Mapping[str, Any]]
QUESTIONS: dict[str, Options] = {
    "learning rate": {f"{rate:g}": {"learning_rate": rate} for rate in (1e-3, 3e-4)},
    "augmentation": {name: {"augmentation": name} for name in AUGMENTATION_NAMES},
    "warm-up": {f"{share:.0%} of the steps": {"warmup_fraction": share} for share in (0.1, 0.3)},
    "terms": {
        "all": {"weights": RecoveryWeights(1.0, 1.0, 3.0, 1.5, 0.5)},
        "task alone": {"weights": RecoveryWeights(1.0, 1.0, 0.0, 0.0, 0.0)},
    },
    "length": {
        "as before": {},
        "a third of the steps": {"steps": 1 / 3},
        "twice the images a step": {"batch_size": 2},
    },
}
"""Asked in this order; each option is a change of settings, a factor where `FACTORS` says so. The first one stands
before."""
FACTORS = ("steps", "batch_size")
PATIENCES = (1, 2, 3, 4)
"""What is tried of the stop rule, on the curves that are there."""


TRIAL = "h70_m95"


@dataclass(frozen=True)
class Outcome:
    """One recovery.

    Attributes:
        question, option: What it was made for.
        settings: How.
        before, bf1: Boundary F1 before and after, on validation images that chose nothing within the recovery.
        gain: Their difference with its paired interval.
        best_step: Steps behind the weights that were kept.
        seconds: Of all steps.
        validations: `step`, `bf1`, `noise` of each look at the images that chose the weights.
    """

    question: str
    option: str
    settings: RecoverySettings
    before: float
    bf1: float
    gain: Interval
    best_step: int
    seconds: float
    validations: list[list[float]]


class Recoveries:
    """The models and the images of a study, and the store that its recoveries are kept in."""

    def __init__(self, inputs: Inputs, statistics: Statistics | None, store: RecoveryStore) -> None:
        self.inputs, self.statistics, self.store = inputs, statistics, store
        roles = inputs.roles
        self.data = Split(dict(roles.train), dict(roles.validation), {}, roles.seed, roles.fractions)

    @cached_property
    def start(self) -> tuple[nn.Module, pd.DataFrame]:
        """What is recovered, heads and neurons cut together and what is left corrected, with its metrics."""
        model = self.inputs.adapted
        small = prune(model, plan(model, TRIAL, SUBJECT, statistics=self.statistics))
        correct(small, model, self.inputs.calibration(0), progress=False)
        return small, self.judged(small)

    def judged(self, model: nn.Module) -> pd.DataFrame:
        """Metrics of each of the images that answers are chosen on."""
        return evaluate(model, self.inputs.sets, progress=False)

    def recover(self, question: str, option: str, settings: RecoverySettings) -> Outcome:
        """Recover the start, or find it recovered."""
        small, before = self.start
        model, history = self.store.recover(copy.deepcopy(small), self.inputs.adapted, self.data, settings)
        after = self.judged(model)
        gain = paired_difference(after, before, "bf1")
        looks = history.validations[["step", "bf1", "noise"]].to_numpy().tolist()
        return Outcome(
            question,
            option,
            settings,
            float(macro_average(before)["bf1"]),
            float(macro_average(after)["bf1"]),
            Interval(gain.value, gain.low, gain.high),
            int(history.best_step or 0),
            history.seconds,
            looks,
        )

    def unpruned(self) -> float:
        """Boundary F1 of the teacher on the images that answers are chosen on."""
        return float(macro_average(self.judged(self.inputs.adapted))["bf1"])


def best(outcomes: Sequence[Outcome]) -> Outcome:
    """Return the outcome with the best Boundary F1, the first of equals."""
    return max(outcomes, key=lambda outcome: outcome.bf1)


def first_settings(steps: int, batch_size: int) -> RecoverySettings:
    """What the first question is asked with: the first option of each, whatever the defaults have become since.

    Without a stop, so that every curve is there to the end.
    """
    settings = RecoverySettings(steps=steps, batch_size=batch_size, validate_every=25, patience=0)
    for options in QUESTIONS.values():
        settings = changed(settings, next(iter(options.values())))
    return settings


def changed(settings: RecoverySettings, change: Mapping[str, Any]) -> RecoverySettings:
    """Apply an option of a question."""
    scaled = {name: max(1, round(getattr(settings, name) * change[name])) for name in FACTORS if name in change}
    return replace(settings, **{**change, **scaled})


def ask_all(study: Recoveries, settings: RecoverySettings) -> list[Outcome]:
    """Ask every question, each with the earlier answers kept."""
    asked = list[Outcome]()
    for question, options in QUESTIONS.items():
        outcomes = [study.recover(question, name, changed(settings, change)) for name, change in options.items()]
        settings = best(outcomes).settings
        asked += outcomes
    return asked


def settled(asked: Sequence[Outcome]) -> RecoverySettings:
    """Return the settings that a study ends in: the best answer to its last question, which holds all others."""
    return best([outcome for outcome in asked if outcome.question == asked[-1].question]).settings


@dataclass(frozen=True)
class Stops:
    """What the stop rule would have done on the curves of a study: stops, and those that a later look contradicts."""

    patience: int
    stopped: int
    wrong: int
    steps_saved: float


def stops(outcomes: Sequence[Outcome], patience: int) -> Stops:
    """Run the stop rule over curves; a stop is wrong where a look after it is better than all before."""
    stopped = wrong = 0
    saved = total = 0.0
    for outcome in outcomes:
        looks = [(int(step), bf1, noise) for step, bf1, noise in outcome.validations]
        warmup, steps = outcome.settings.warmup, outcome.settings.steps
        total += steps
        for count in range(1, len(looks)):
            if declined(looks[:count], patience, warmup):
                stopped += 1
                saved += steps - looks[count - 1][0]
                wrong += max(score for _, score, _ in looks[count:]) > max(score for _, score, _ in looks[:count])
                break
    return Stops(patience, stopped, wrong, saved / total)


_HEADER = ["option", "BF1 before", "BF1", "gain", "weights of step", "steps", "batch", "minutes", ""]


def _row(outcome: Outcome, mark: str) -> list[str]:
    settings = outcome.settings
    return [
        outcome.option,
        f"{outcome.before:.4f}",
        f"{outcome.bf1:.4f}",
        estimate("bf1", outcome.gain, sign=True),
        str(outcome.best_step) if outcome.best_step else "none: nothing gained",
        str(settings.steps),
        str(settings.batch_size),
        f"{outcome.seconds / 60:.1f}",
        mark,
    ]


def page(asked: Sequence[Outcome], unpruned: float, study: Recoveries) -> str:
    """Lay a study out as Markdown."""
    grids = []
    for question in dict.fromkeys(outcome.question for outcome in asked):
        of_question = [outcome for outcome in asked if outcome.question == question]
        rows = [_row(each, "best" if each is best(of_question) else "") for each in of_question]
        grids.append(Grid(f"{question[0].upper()}{question[1:]}", _HEADER, rows))
    chosen = settled(asked)
    curves = list({str(each.settings): each for each in asked}.values())
    tried = [stops(curves, patience) for patience in PATIENCES]
    rows = [[str(each.patience), str(each.stopped), str(each.wrong), f"{each.steps_saved:.0%}"] for each in tried]
    footer = [
        f"of {len(curves)} curves, a look every {chosen.validate_every} steps; unpruned: BF1 {unpruned:.4f}",
        NOTICE,
    ]
    grids.append(Grid("The stop rule on these curves", ["patience", "stopped", "wrongly", "steps saved"], rows, footer))
    counts = {
        name: sum(map(len, sets.values()))
        for name, sets in (("train", study.data.train), ("chooses", study.data.validation), ("sets", study.inputs.sets))
    }
    words = ", ".join(
        f"{name.replace('_', ' ')} {value}"
        for name, value in asdict(chosen).items()
        if name in ("steps", "batch_size", "learning_rate", "warmup_fraction", "augmentation")
    )
    weights = ", ".join(f"{name.replace('_', ' ')} {value:g}" for name, value in asdict(chosen.weights).items())
    lead = _PREAMBLE.format(
        subject=SUBJECT, level=TRIAL, names=", ".join(study.data.train), words=words, weights=weights, **counts
    )
    return lead + "\n".join(grid.markdown() for grid in grids)


_PREAMBLE = """# How the recovery's defaults were settled

Written by `medcore-bench recovery-study`; not edited by hand.

A one-shot model of `{subject}` at {level}, corrected without training, was recovered on {train} training images of
{names}. One question was asked after the other, with the earlier answers kept. Within a recovery {chooses} validation
images chose the weights; answers were chosen on {sets} other validation images; test images were not looked at. BF1 is
Boundary F1 (2 px on the 256 grid), averaged over sets; gain: over the start, with its paired 95 % interval. One seed:
answers that differ by a few thousandths differ by no more than noise.

Settled: {words}; weights of the terms: {weights}. These are the defaults from then on, for real images too.

The stop rule ends a recovery once as many looks in a row as its patience, none of them within the warm-up, lie below
the best by more than two standard errors of the paired difference, and do not climb. "wrongly": a later look was better
than all before the stop.

"""


def run(cache: Path, store: Path, out: Path, device: str, **counts: int) -> None:
    """Settle how corrected models are recovered, on phantom validation images."""
    study = _study(counts, device, cache, RecoveryStore(store), out)
    asked = ask_all(study, first_settings(counts["steps"], counts["batch"]))
    unpruned = study.unpruned()
    stored: dict[str, Any] = {"notice": NOTICE, "unpruned_bf1": unpruned}
    stored |= {"asked": [asdict(each) for each in asked]}
    chosen = settled(asked)
    click.echo(f"settled: {chosen.steps} steps of {chosen.batch_size} images, learning rate {chosen.learning_rate:g}")
    write_study(out, stored, page(asked, unpruned, study))


def _study(counts: dict[str, int], device: str, cache: Path, store: RecoveryStore, out: Path) -> Recoveries:
    drawn = {name: counts[name] for name in ("images", "calibration", "training", "validation")}
    study = Study.load(out, device, cache, **drawn)
    return Recoveries(study.inputs, study.statistics([get_baseline(SUBJECT)]), store)
