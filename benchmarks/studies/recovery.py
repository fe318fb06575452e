"""`recovery-study`: settle learning rate and weights of the recovery loss on phantom validation images, in few trials.

Run as `medcore-bench recovery-study`. Short recoveries of one pruned model, first over learning
rates, then over weights at the best of them; the best setting then recovers each level for longer. Steps read training
images, every choice reads validation images, test images are never looked at. Recoveries are stored by content: a
killed study goes on where it stopped. The best trial is what the defaults are then set to, by hand, and frozen for
everything else, real images too.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import click
from torch import nn

from ...calibration.statistics import Statistics
from ...data.splits.split import FRACTIONS, Split
from ...evaluation.evaluate import evaluate, macro_average
from ...pruning.planning import plan
from ...pruning.surgery import prune
from ...scoring.recipes import get_baseline
from ...training.recover import RecoveryHistory
from ...training.settings import RecoverySettings, RecoveryWeights
from ...training.store import RecoveryStore
from ...zoo import NOTICE
from ..report.tables import Grid
from ..runner.inputs import Inputs
from ..runner.settings import SUBJECT
from .study import Study, write_study

TRIAL_LEVEL = "h84_m95"
OTHER_LEVELS = ("h70_m95",)
LEARNING_RATES = (3e-4, 1e-3, 2e-3)
TRIED_LONGER = 2
"""Learning rates that are tried again at full length, since the best one may depend on how many steps there are."""
WEIGHTS = {
    "all": RecoveryWeights(1, 1, 1, 0.5, 0.5),
    "task alone": RecoveryWeights(1, 1, 0, 0, 0),
    "without boundary BCE": RecoveryWeights(1, 0, 1, 0.5, 0.5),
    "without features": RecoveryWeights(1, 1, 0, 0.5, 0.5),
    "without boundary logits": RecoveryWeights(1, 1, 1, 0, 0.5),
    "without high frequencies": RecoveryWeights(1, 1, 1, 0.5, 0),
    "teacher more": RecoveryWeights(1, 1, 3, 1.5, 0.5),
}
"""What is tried; the first is what learning rates are tried with."""


@dataclass(frozen=True)
class Outcome:
    """One recovery of a pruned model: metrics on validation images, wall time, and `name`, that of its weights.

    `curve` holds the mean of the loss and of each term over tenths of the steps.
    """

    name: str
    level: str
    settings: RecoverySettings
    bf1: float
    dice: float
    bf1_before: float
    seconds_a_step: float
    curve: dict[str, list[float]]

    @classmethod
    def of(cls, name: str, level: str, settings: RecoverySettings, history: RecoveryHistory) -> "Outcome":
        """Read an outcome from a history."""
        last = history.validations.iloc[-1]
        frame = history.frame
        tenth = (frame["step"] - 1) * 10 // len(frame)
        means = frame.groupby(tenth).mean().drop(columns=["step", "learning_rate"])
        curve = {str(column): [round(float(value), 5) for value in means[column]] for column in means}
        pace = history.seconds / len(frame)
        return cls(name, level, settings, float(last["bf1"]), float(last["dice"]), history.start["bf1"], pace, curve)


class Recoveries:
    """The pruned models and the images of a study, and the store that its recoveries are kept in."""

    def __init__(self, inputs: Inputs, statistics: Statistics | None, store: RecoveryStore) -> None:
        self.inputs, self.statistics, self.store = inputs, statistics, store
        self.data = Split(dict(inputs.roles.train), dict(inputs.sets), {}, 0, FRACTIONS)

    def pruned(self, level: str) -> nn.Module:
        """Cut heads and neurons together, without recovery."""
        model = self.inputs.adapted
        return prune(model, plan(model, level, SUBJECT, statistics=self.statistics))

    def recover(self, name: str, level: str, settings: RecoverySettings) -> Outcome:
        """Recover a level, or find it recovered."""
        settings = replace(settings, validate_every=settings.steps)
        _, history = self.store.recover(self.pruned(level), self.inputs.adapted, self.data, settings)
        return Outcome.of(name, level, settings, history)

    def unpruned(self) -> float:
        """Boundary F1 of the teacher on the validation images."""
        tables = [
            evaluate(self.inputs.adapted, {name: each}, progress=False) for name, each in self.data.validation.items()
        ]
        return float(sum(macro_average(table)["bf1"] for table in tables) / len(tables))


def best(outcomes: Sequence[Outcome]) -> Outcome:
    """Return the outcome with the best Boundary F1, the first of equals."""
    return max(outcomes, key=lambda outcome: outcome.bf1)


def recover_all(
    study: Recoveries, trial: RecoverySettings, final: RecoverySettings
) -> tuple[list[Outcome], list[Outcome]]:
    """Run the trials, then recover for longer with the best weights.

    Returns the trials: learning rates with the first weights, then the other weights at the best rate. And longer
    recoveries with the best weights: the level of the trials at the `TRIED_LONGER` best rates, then other levels at
    the better one.
    """
    first, *others = WEIGHTS
    rates = [
        study.recover(first, TRIAL_LEVEL, replace(trial, learning_rate=rate, weights=WEIGHTS[first]))
        for rate in LEARNING_RATES
    ]
    rate = best(rates).settings.learning_rate
    trials = rates + [
        study.recover(name, TRIAL_LEVEL, replace(trial, learning_rate=rate, weights=WEIGHTS[name])) for name in others
    ]
    chosen = best(trials).name
    final = replace(final, weights=WEIGHTS[chosen])
    leading = sorted(rates, key=lambda outcome: -outcome.bf1)[:TRIED_LONGER]
    longer = [
        study.recover(chosen, TRIAL_LEVEL, replace(final, learning_rate=each.settings.learning_rate))
        for each in leading
    ]
    rate = best(longer).settings.learning_rate
    return trials, longer + [study.recover(chosen, level, replace(final, learning_rate=rate)) for level in OTHER_LEVELS]


def settled(trials: Sequence[Outcome], longer: Sequence[Outcome]) -> RecoverySettings:
    """Return the settings that a study ends in: the best trial's weights, the best rate at full length."""
    rate = best([outcome for outcome in longer if outcome.level == TRIAL_LEVEL]).settings.learning_rate
    return RecoverySettings(learning_rate=rate, weights=best(trials).settings.weights)


_HEADER = [
    "weights",
    *RecoveryWeights.__dataclass_fields__,
    "learning rate",
    "steps",
    "batch",
    "BF1 before",
    "BF1",
    "Dice",
]


def _row(outcome: Outcome) -> list[str]:
    settings = outcome.settings
    return [
        outcome.name,
        *(f"{weight:g}" for weight in asdict(settings.weights).values()),
        f"{settings.learning_rate:g}",
        str(settings.steps),
        str(settings.batch_size),
        f"{outcome.bf1_before:.4f}",
        f"{outcome.bf1:.4f}",
        f"{outcome.dice:.4f}",
    ]


def page(trials: Sequence[Outcome], further: Sequence[Outcome], unpruned: float, study: Recoveries) -> str:
    """Lay a study out as Markdown."""
    validation, train = (sum(map(len, sets.values())) for sets in (study.data.validation, study.data.train))
    rows = [[*_row(outcome), "best" if outcome is best(trials) else ""] for outcome in trials]
    tried = Grid(f"Short recoveries at {TRIAL_LEVEL}", [*_HEADER, ""], rows, footer=[NOTICE], left=1)
    longer = Grid(
        "The best weights for longer",
        ["level", *_HEADER[1:], "s a step", "loss, first tenth", "last tenth"],
        [
            [
                outcome.level,
                *_row(outcome)[1:],
                f"{outcome.seconds_a_step:.2f}",
                f"{outcome.curve['loss'][0]:.3f}",
                f"{outcome.curve['loss'][-1]:.3f}",
            ]
            for outcome in further
        ],
        footer=[f"unpruned: BF1 {unpruned:.4f}", NOTICE],
        left=1,
    )
    lead = _PREAMBLE.format(subject=SUBJECT, sets=", ".join(study.data.train), train=train, validation=validation)
    return lead + tried.markdown() + "\n" + longer.markdown()


_PREAMBLE = """# How the recovery's defaults were settled

Written by `medcore-bench recovery-study`; not edited by hand.

One-shot models of `{subject}` were recovered on {train} training images of {sets} and scored on {validation} validation
images; test images were not looked at. The score is Boundary F1 (2 px on the 256 grid), averaged over sets. Learning
rates were tried first, then weights of Eq. 14 at the best of them, then the two best rates at full length. The best
weights and the better of the two rates are the defaults from then on, for real images too. One seed, short recoveries:
differences of a few thousandths are noise.

"""


def run(cache: Path, store: Path, out: Path, device: str, **counts: int) -> None:
    """Settle learning rate and weights of the recovery loss on phantom validation images."""
    study = _study(counts, device, cache, RecoveryStore(store), out)
    trial = RecoverySettings(steps=counts["trial_steps"], batch_size=counts["trial_batch"])
    trials, longer = recover_all(study, trial, RecoverySettings(steps=counts["steps"], batch_size=counts["batch"]))
    unpruned = study.unpruned()
    stored: dict[str, Any] = {"notice": NOTICE, "unpruned_bf1": unpruned}
    stored |= {"trials": [asdict(each) for each in trials], "longer": [asdict(each) for each in longer]}
    click.echo(f"best: {best(trials).name}, learning rate {settled(trials, longer).learning_rate:g}")
    write_study(out, stored, page(trials, longer, unpruned, study))


def _study(counts: dict[str, int], device: str, cache: Path, store: RecoveryStore, out: Path) -> Recoveries:
    drawn = {name: counts[name] for name in ("images", "calibration", "training")}
    study = Study.load(out, device, cache, **drawn)
    return Recoveries(study.inputs, study.statistics([get_baseline(SUBJECT)]), store)
