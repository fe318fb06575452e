"""Pruning with recovery: heads, a short recovery, MLP neurons scored again, recovery (METHOD section 8).

Whatever is cut, the reference is cut by the same plan: scoring again after a cut, theta_M is the recovered model, and
F_S is taken on the cut reference. The teacher is always the unpruned adapted model, and plans are told in its indices.
"""

import time
from collections.abc import Callable, Collection
from dataclasses import dataclass, field, replace
from functools import reduce
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

from torch import nn

from .._support.errors import BudgetError, require_known
from ..calibration.calibrate import calibrate
from ..data.splits.split import Data, Split, training_split
from ..models.calls.call import on_models
from ..models.families import geometry_of
from ..pruning.budget import Budget
from ..pruning.level import Level
from ..pruning.plan import Plan
from ..pruning.planning import scored_plan
from ..pruning.surgery import prune
from ..scoring.inputs import Inputs
from ..scoring.recipes import Scorer, needs_of
from .recover import RecoveryHistory, recover
from .settings import DEFAULT_RECOVERY, RecoverySettings
from .store import RecoveryStore

HEAD_RECOVERY_FRACTION = 0.25
Correct: TypeAlias = Callable[[nn.Module, nn.Module, Split], Any]
"""Changes a cut model in place: the cut model, its teacher, the data."""


class Stage(NamedTuple):
    """One cut with what followed it.

    Attributes:
        name: `all`, `heads` or `neurons`.
        plan: What went, in the indices of the model before the stage.
        history: Of its recovery; None without one.
        seconds: Calibration, scoring, cut, correction and recovery together.
    """

    name: str
    plan: Plan
    history: RecoveryHistory | None
    seconds: float


class Step(NamedTuple):
    """What one stage cuts, and whether its recovery is the short one of the heads."""

    name: str
    level: Level
    short: bool = False


def _heads_first(level: Level) -> list[Step]:
    heads, neurons = Step("heads", Level(level.heads, 0), short=True), Step("neurons", Level(0, level.neurons))
    if not level.neurons:
        return [heads._replace(short=False)]
    return [heads, neurons] if level.heads else [neurons]


SCHEDULES: dict[str, Callable[[Level], list[Step]]] = {
    "cascade": _heads_first,
    "one-shot": lambda level: [Step("all", level)],
}
"""In which order a level's heads and neurons go."""


@dataclass(frozen=True)
class Cascaded:
    """A pruned and recovered model with all that a second pass needs.

    Attributes:
        model: The result.
        reference: The reference cut by the same plan; None where there was none.
        plan: All that went, in the indices of the unpruned model.
        stages: In order.
        teacher: The unpruned adapted model.
    """

    model: nn.Module = field(repr=False)
    reference: nn.Module | None = field(repr=False)
    plan: Plan
    stages: tuple[Stage, ...] = field(repr=False)
    teacher: nn.Module = field(repr=False)


class Calibration(NamedTuple):
    """What each cut is scored on: so many images of each data set, drawn by a seed, and where statistics are kept."""

    samples: int
    seed: int
    cache_dir: str | Path | None

    def inputs(
        self, model: nn.Module, reference: nn.Module | None, data: Split, criterion: Scorer, progress: bool
    ) -> Inputs:
        """Collect what the criterion needs of the models as they are now."""
        samples, seed, cache_dir = self
        drawn = data.calibration(samples, seed, geometry_of(model).frame)
        statistics, needs = None, needs_of(criterion)
        if needs:
            statistics = calibrate(
                model, reference, data, samples, needs, cache_dir=cache_dir, seed=seed, progress=progress
            )
        return Inputs(model, reference, drawn, statistics, seed)


class Recovering(NamedTuple):
    """How stages are recovered, the last one and that of the heads, and where recoveries are kept."""

    last: RecoverySettings | None
    heads: RecoverySettings | None
    store: RecoveryStore | None

    def run(
        self, model: nn.Module, teacher: nn.Module, data: Split, short: bool, progress: bool
    ) -> tuple[nn.Module, RecoveryHistory | None]:
        """Recover a model that was just cut, which may change, and return it; without `last` nothing is done."""
        if self.last is None:
            return model, None
        settings = (self.heads or self.last.shortened(HEAD_RECOVERY_FRACTION)) if short else self.last
        if self.store is not None:
            return self.store.recover(model, teacher, data, settings, progress=progress)
        return model, recover(model, teacher, data, settings, progress=progress)


@dataclass(frozen=True)
class Runner:
    """What stays the same from stage to stage; see `cascade`."""

    teacher: nn.Module
    criterion: Scorer
    data: Split
    budget: Budget
    calibration: Calibration
    recovering: Recovering
    correct: Correct | None
    progress: bool

    def run(self, model: nn.Module, reference: nn.Module | None, schedule: str) -> Cascaded:
        """Cut both models and recover the first by a schedule, stage by stage; both are left as they are.

        The plan that comes back is in the indices of the model that was given: one level, cut in several stages.
        """
        require_known("schedule", schedule, SCHEDULES, BudgetError)
        stages: list[Stage] = []
        for step in SCHEDULES[schedule](self.budget.level):
            start = time.perf_counter()
            inputs = self.calibration.inputs(model, reference, self.data, self.criterion, self.progress)
            plan = scored_plan(self.criterion, inputs, replace(self.budget, level=step.level))
            model = prune(model, plan)
            reference = None if reference is None else prune(reference, plan)
            if self.correct is not None:
                self.correct(model, self.teacher, self.data)
            model, history = self.recovering.run(model, self.teacher, self.data, step.short, self.progress)
            stages.append(Stage(step.name, plan, history, time.perf_counter() - start))
        first, *others = (stage.plan for stage in stages)
        whole = reduce(Plan.then, others, first)
        whole = replace(whole, level=str(self.budget.level), protected=first.protected, only=first.only)
        return Cascaded(model, reference, whole, tuple(stages), self.teacher)


@on_models("model", "reference")
def cascade(
    model: nn.Module,
    level: Level | str,
    criterion: Scorer = "medcore",
    *,
    reference: nn.Module | None = None,
    data: Data,
    schedule: str = "cascade",
    recovery: RecoverySettings | None = DEFAULT_RECOVERY,
    head_recovery: RecoverySettings | None = None,
    samples: int = 128,
    seed: int = 0,
    protect: int | None = None,
    only: Collection[int] | None = None,
    store: RecoveryStore | None = None,
    cache_dir: str | Path | None = None,
    correct: Correct | None = None,
    progress: bool = True,
) -> Cascaded:
    """Prune an adapted model at a level and recover it.

    Args:
        model: The unpruned adapted model, teacher of every recovery; left as it is.
        level: `h50_m70`, or a `Level`: shares of the whole encoder's units, in both stages.
        criterion: As for `plan`; a name or a recipe is calibrated for before each cut.
        reference: The checkpoint that the model was adapted from, for criteria that read one; left as it is.
        data: Training images for calibration and recovery, validation images for choosing the recovered weights. Images
            by data set are all for training.
        schedule: `"cascade"`: heads, short recovery, neurons scored again on the recovered model, recovery;
            `"one-shot"`: both together, recovery.
        recovery: Of the last stage; None for no fine-tuning at all.
        head_recovery: Of the heads' stage; None for a quarter of `recovery`'s steps.
        samples: Calibration images of each data set.
        seed: Of the calibration draw and of stochastic criteria.
        protect, only: As for `plan`.
        store: Where recoveries are kept and found again; None keeps none.
        cache_dir: Of calibration statistics.
        correct: Called with the cut model, the teacher and `data` after each cut, before its recovery, to change the
            cut model in place.
        progress: Show how far it is.

    Returns:
        The recovered model, the reference cut alike, the plan in the indices of `model`, and the stages.

    Raises:
        BudgetError: An unknown schedule, or a level that cannot be met.
        MedcorePruneError: As for `calibrate`, `plan` and `recover`.
    """
    budget = Budget(Level.parse(level), protect, only)
    how = Calibration(samples, seed, cache_dir), Recovering(recovery, head_recovery, store), correct, progress
    return Runner(model, criterion, training_split(data, "cascade"), budget, *how).run(model, reference, schedule)


def second_pass(
    first: Cascaded,
    level: Level | str,
    criterion: Scorer = "medcore",
    *,
    data: Data,
    reference: nn.Module | None = None,
    schedule: str = "cascade",
    recovery: RecoverySettings | None = DEFAULT_RECOVERY,
    head_recovery: RecoverySettings | None = None,
    samples: int = 128,
    seed: int = 0,
    only: Collection[int] | None = None,
    store: RecoveryStore | None = None,
    cache_dir: str | Path | None = None,
    correct: Correct | None = None,
    progress: bool = True,
) -> Cascaded:
    """Prune the formerly protected blocks of a recovered model: the sequential setting (METHOD section 7).

    Scores are taken on the recovered model against the reference cut by the same plan; the teacher is the unpruned
    model of the first pass.

    Args:
        first: What `cascade` gave; left as it is.
        level: Shares of the units of the formerly protected blocks alone.
        only: Other blocks than those that the first plan protected.
        reference: The whole reference, where `first` was made without one.
        criterion, data, schedule, recovery, head_recovery, samples, seed, store, cache_dir, correct, progress: As for
            `cascade`.

    Returns:
        As for `cascade`; the plan holds both passes, in the indices of the unpruned model, and `stages` the second
        pass's alone.

    Raises:
        BudgetError: The first plan protected no block and `only` names none, or as for `cascade`.
        MedcorePruneError: As for `cascade`.
    """
    blocks = first.plan.protected if only is None else only
    if not blocks:
        raise BudgetError("the first pass protected no block: name the blocks of the second with only=")
    cut = first.reference
    if cut is None and reference is not None:
        cut = prune(reference, first.plan)
    budget = Budget(Level.parse(level), only=blocks)
    how = Calibration(samples, seed, cache_dir), Recovering(recovery, head_recovery, store), correct, progress
    runner = Runner(first.teacher, criterion, training_split(data, "cascade"), budget, *how)
    second = runner.run(first.model, cut, schedule)
    return replace(second, plan=first.plan.then(second.plan))
