"""What goes: what is asked for, the calibration that a method reads, and the plan, by rule, target or search."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
from torch import nn

from ..._support.errors import CheckpointError
from ...calibration.calibrate import calibrate
from ...calibration.estimate import calibration_estimate
from ...calibration.statistics import Statistics
from ...data.splits.split import Split
from ...models.families import geometry_of
from ...pruning.budget import SEARCHED
from ...pruning.level import Level
from ...pruning.plan import Plan
from ...pruning.planning import plan as make_plan
from ...pruning.regular import regular_level
from ...pruning.target import Target
from ...scoring.recipes import Baseline, get_baseline
from .memory import fit, images_at_a_time

_MOST_IMAGES = 8
"""Images at a time while calibrating, where there is room."""


@dataclass(frozen=True)
class PruneSettings:
    """What is asked for: a `level`, or a `target`, which heads and neurons then share automatically.

    `method` is a registered baseline or criterion; `calibration` images of each data set are drawn by `seed`;
    `correct` counts those of the training-free correction, 0 for none, `fit_steps` the steps behind it that fit
    each block; `search` the generations of a searched budget, 0 for the method's own; `uniform` takes the same of
    every block, whatever quotas the method has, so that `multiple_of` neurons or a multiple of it stay; `cache` is of
    statistics, None for the user's cache.
    """

    level: Level | None = None
    target: Target | None = None
    method: str = "medcore"
    calibration: int = 16
    seed: int = 0
    protect: int | None = None
    correct: int = 0
    fit_steps: int = 0
    search: int = 0
    uniform: bool = False
    multiple_of: int = 1
    cache: Path | None = None

    @property
    def recipe(self) -> Baseline:
        """The method; of a searched budget it needs nothing for quotas, nor of a uniform one."""
        found = get_baseline(self.method)
        if self.uniform:
            return found.with_settings(quotas="uniform")
        return found.with_settings(quotas=SEARCHED) if self.search else found


def statistics_of(
    model: nn.Module, reference: nn.Module | None, roles: Split, settings: PruneSettings
) -> Statistics | None:
    """Calibrate what the method reads, on training images; None where it reads nothing."""
    needs = settings.recipe.needs
    if not needs:
        return None
    sets = len(roles.train)
    # a smaller set is taken whole
    samples = min(settings.calibration, max(map(len, roles.train.values()), default=0))
    if samples < settings.calibration:
        click.echo(f"note: --calibration {settings.calibration}, but there are {samples} training images", err=True)
    batch_size = fit(
        # without a trial: calibration times its own passes
        lambda count: calibration_estimate(
            model, reference, samples=samples, datasets=sets, batch_size=count, needs=needs, trial=False
        ),
        _MOST_IMAGES,
        [model, *([] if reference is None else [reference])],
        trained=True,
    )
    return calibrate(
        model, reference, roles, samples, needs, seed=settings.seed, cache_dir=settings.cache, batch_size=batch_size
    )


def require_reference(reference: nn.Module | None, recipe: Baseline) -> None:
    """Refuse a method that reads the checkpoint before adaptation where there is none."""
    if reference is None and recipe.reads_reference:
        raise CheckpointError(
            f"--method {recipe.name} compares with the checkpoint before adaptation: give --reference FILE (pocket for "
            "the built-in one), or a method that reads none, such as zero_fisher"
        )


def plan_of(
    model: nn.Module,
    reference: nn.Module | None,
    roles: Split,
    statistics: Statistics | None,
    settings: PruneSettings,
) -> Plan:
    """Choose what goes, by the method's rule, by an automatic split of a target, or by a search."""
    read: dict[str, Any] = {"statistics": statistics, "reference": reference, "protect": settings.protect}
    read |= {"seed": settings.seed}
    goal = settings.target or settings.level
    assert goal is not None, "a command gives a level or a target"
    if settings.search:
        # imported here, as below, because most runs name a level and search nothing
        from ...correction.search.plan import searched_plan

        limits: dict[str, Any] = {"batch_size": images_at_a_time(model, _MOST_IMAGES), "cache_dir": settings.cache}
        return searched_plan(model, goal, settings.recipe, data=roles, generations=settings.search, **limits, **read)
    read["data"] = roles.calibration(settings.calibration, settings.seed, geometry_of(model).frame)
    if settings.uniform:
        assert isinstance(goal, Level), "the command refuses a target"
        regular = regular_level(model, goal, settings.multiple_of)
        return make_plan(model, regular, settings.recipe, **{**read, "protect": 0})
    if isinstance(goal, Level):
        return make_plan(model, goal, settings.method, **read)
    # measures leverage on the same images
    from ...pruning.automatic import automatic_plan
    from ...pruning.block_times import block_times

    if goal.unit == "latency":
        read["times"] = block_times(model, cache_dir=settings.cache)
    found = automatic_plan(model, goal, settings.method, samples=settings.calibration, **read)
    click.echo(str(found))
    return found.plan
