"""Pruning with recovery: heads, a short recovery, MLP neurons scored again, recovery (METHOD section 8).

Whatever is cut, the reference is cut by the same plan: scoring again after a cut, theta_M is the recovered model, and
F_S is taken on the cut reference. The teacher is always the unpruned adapted model, and plans are told in its indices.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from torch import nn

from ._support.errors import BudgetError
from .cascade_stages import Correct, Criteria, Runner, Stage
from .data.splits.split import Data, training_split
from .pruning.level import Level
from .pruning.plan import Plan
from .pruning.surgery import prune
from .recovery_settings import DEFAULT_RECOVERY, RecoverySettings
from .recovery_store import RecoveryStore


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


def cascade(
    model: nn.Module,
    level: Level | str,
    criterion: Criteria = "medcore",
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
    runner = Runner(
        teacher=model,
        criterion=criterion,
        data=training_split(data, "cascade"),
        recovery=recovery,
        head_recovery=head_recovery,
        samples=samples,
        seed=seed,
        protect=protect,
        only=only,
        store=store,
        cache_dir=cache_dir,
        correct=correct,
        progress=progress,
    )
    level = Level.parse(level)
    small, cut, stages = runner.run(model, reference, level, schedule)
    return Cascaded(small, cut, _whole(stages, level), stages, model)


def second_pass(
    first: Cascaded,
    level: Level | str,
    criterion: Criteria = "medcore",
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
    runner = Runner(
        teacher=first.teacher,
        criterion=criterion,
        data=training_split(data, "cascade"),
        recovery=recovery,
        head_recovery=head_recovery,
        samples=samples,
        seed=seed,
        protect=None,
        only=blocks,
        store=store,
        cache_dir=cache_dir,
        correct=correct,
        progress=progress,
    )
    level = Level.parse(level)
    small, cut, stages = runner.run(first.model, cut, level, schedule)
    return Cascaded(small, cut, first.plan.then(_whole(stages, level)), stages, first.teacher)


def _whole(stages: Sequence[Stage], level: Level) -> Plan:
    """Combine the stages' plans in the indices of the model before the first."""
    first, *others = (stage.plan for stage in stages)
    whole = first
    for other in others:
        whole = whole.then(other)
    # a level that was cut in two stages is one level still
    return replace(whole, level=str(level), protected=first.protected, only=first.only)
