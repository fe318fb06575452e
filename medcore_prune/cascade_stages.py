"""The stages of pruning with recovery: what each cuts, by which scores, and what follows the cut."""

import time
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import torch_pruning as tp
from torch import nn

from ._support.errors import BudgetError
from .calibration.calibrate import calibrate
from .calibration.collector import Need
from .calibration.statistics import Statistics
from .data.splits.split import Split
from .models.families import geometry_of
from .pruning.level import Level
from .pruning.plan import Plan
from .pruning.planning import plan as make_plan
from .pruning.surgery import prune
from .recovery import recover
from .recovery_history import RecoveryHistory
from .recovery_settings import RecoverySettings
from .recovery_store import RecoveryStore
from .scoring.criterion import Criterion
from .scoring.recipes import Baseline, get_baseline

HEAD_RECOVERY_FRACTION = 0.25
Criteria: TypeAlias = str | Baseline | tp.importance.Importance | type[Criterion]
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


def _one_shot(level: Level) -> list[Step]:
    return [Step("all", level)]


def _heads_first(level: Level) -> list[Step]:
    heads, neurons = Step("heads", Level(level.heads, 0), short=True), Step("neurons", Level(0, level.neurons))
    if not level.neurons:
        return [heads._replace(short=False)]
    return [heads, neurons] if level.heads else [neurons]


SCHEDULES: dict[str, Callable[[Level], list[Step]]] = {"cascade": _heads_first, "one-shot": _one_shot}
"""In which order a level's heads and neurons go."""


@dataclass(frozen=True)
class Runner:
    """What stays the same from stage to stage; see `cascading.cascade` for the attributes."""

    teacher: nn.Module
    criterion: Criteria
    data: Split
    recovery: RecoverySettings | None
    head_recovery: RecoverySettings | None
    samples: int
    seed: int
    protect: int | None
    only: Collection[int] | None
    store: RecoveryStore | None
    cache_dir: str | Path | None
    correct: Correct | None
    progress: bool

    def run(
        self, model: nn.Module, reference: nn.Module | None, level: Level, schedule: str
    ) -> tuple[nn.Module, nn.Module | None, tuple[Stage, ...]]:
        """Cut and recover by a schedule.

        Args:
            model: What is cut; left as it is.
            reference: Cut alike; None for none.
            level: Of all stages together.
            schedule: One of `SCHEDULES`.

        Returns:
            The recovered model, the cut reference, the stages.

        Raises:
            BudgetError: An unknown schedule, or a level that cannot be met.
        """
        if schedule not in SCHEDULES:
            raise BudgetError(f"unknown schedule {schedule!r}: expected one of {', '.join(SCHEDULES)}")
        stages: list[Stage] = []
        for step in SCHEDULES[schedule](level):
            start = time.perf_counter()
            plan = self._plan(model, reference, step.level)
            model = prune(model, plan)
            reference = None if reference is None else prune(reference, plan)
            if self.correct is not None:
                self.correct(model, self.teacher, self.data)
            model, history = self._recover(model, step)
            stages.append(Stage(step.name, plan, history, time.perf_counter() - start))
        return model, reference, tuple(stages)

    def _plan(self, model: nn.Module, reference: nn.Module | None, level: Level) -> Plan:
        return make_plan(
            model,
            level,
            self.criterion,
            statistics=self._statistics(model, reference),
            reference=reference,
            data=self.data.calibration(self.samples, self.seed, geometry_of(model).image_size),
            seed=self.seed,
            protect=self.protect,
            only=self.only,
        )

    def _statistics(self, model: nn.Module, reference: nn.Module | None) -> Statistics | None:
        needs = _needs(self.criterion)
        if not needs:
            return None
        return calibrate(
            model,
            reference,
            self.data,
            self.samples,
            needs,
            cache_dir=self.cache_dir,
            seed=self.seed,
            progress=self.progress,
        )

    def _recover(self, model: nn.Module, step: Step) -> tuple[nn.Module, RecoveryHistory | None]:
        if self.recovery is None:
            return model, None
        short = self.head_recovery or self.recovery.shortened(HEAD_RECOVERY_FRACTION)
        settings = short if step.short else self.recovery
        if self.store is not None:
            return self.store.recover(model, self.teacher, self.data, settings, progress=self.progress)
        return model, recover(model, self.teacher, self.data, settings, progress=self.progress)


def _needs(criterion: Criteria) -> frozenset[Need]:
    """What must be calibrated anew; an importance object brings its own."""
    if isinstance(criterion, str):
        return get_baseline(criterion).needs
    if isinstance(criterion, Baseline):
        return criterion.needs
    if isinstance(criterion, type) and issubclass(criterion, Criterion):
        return criterion.needs_for()
    return frozenset()
