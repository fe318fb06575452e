"""Models that an experiment fine-tunes: what each one is made from, made once, timed, evaluated, its history kept."""

import copy
import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import click
from torch import nn

from ..._support.machines.executor import executor, here
from ...correction.correct import correct
from ...data.splits.split import Split
from ...evaluation.latency import compare_latency
from ...evaluation.memory import Measured
from ...models.fingerprint import model_hash
from ...pruning.plan import Plan
from ...pruning.planning import make_plan
from ...training.cascade import Cascaded, Correct, Stage
from ...training.recover import seconds_per_step
from ...training.settings import RecoverySettings
from ...training.store import RecoveryStore
from .apart import Made, Order, make
from .evaluate import Evaluator, duration
from .inputs import Inputs, sample_hash
from .jobs import Job, Treatment, keep_plan
from .settings import Settings
from .store import UNPRUNED, Cell, ResultStore

_VALIDATIONS, _LOOKS_ON = 12, 4
_AXES = ("step", "learning_rate")


@dataclass(frozen=True)
class Item:
    """One model of an experiment, to be evaluated on the data sets that are named, or on all.

    `recipe` is what it is made from, besides what all models of the run share; `steps` are the optimiser steps of all
    its `recoveries` together.
    """

    mode: str
    method: str
    level: str
    make: Callable[[], Cascaded]
    recipe: Mapping[str, Any] = field(default_factory=dict)
    steps: int = 0
    recoveries: int = 0
    datasets: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """The name of its record among the analyses."""
        return "-".join(filter(None, ("model", self.mode, self.method, self.level, *self.datasets)))


@dataclass(frozen=True)
class Maker:
    """Makes, times and evaluates the models of an experiment that are not stored yet."""

    inputs: Inputs
    settings: Settings
    store: ResultStore
    evaluator: Evaluator
    recovery: RecoverySettings

    @cached_property
    def recoveries(self) -> RecoveryStore:
        """Recovered models by content, shared with the experiments beside this one."""
        return RecoveryStore(self.settings.recoveries_folder)

    def recovered(self, start: Cascaded, data: Split) -> Cascaded:
        """Fine-tune what was cut before towards the unpruned model, with the images of `data`."""
        model, history = self.recoveries.recover(start.model, self.inputs.adapted, data, self.recovery)
        stage = Stage("recovery", start.plan, history, history.seconds)
        return replace(start, model=model, stages=(*start.stages, stage))

    @property
    def options(self) -> dict[str, Any]:
        """What every `cascade` of a run is given."""
        return {
            "reference": self.inputs.reference,
            "data": self.inputs.roles,
            "samples": self.settings.counts.calibration,
            "store": self.recoveries,
            "cache_dir": self.settings.calibration_folder,
        }

    @cached_property
    def _shared(self) -> dict[str, Any]:
        roles = self.inputs.roles
        return {
            "inputs": {name: value for name, value in self.inputs.hashes.items() if not name.startswith("data/")},
            "training": sample_hash(roles.train),
            "validation": sample_hash(roles.validation),
            "calibration": self.settings.counts.calibration,
            "precision": self.settings.precision,
        }

    def origin(self, item: Item) -> str:
        """Hash all that the item is made from."""
        what = {**self._shared, **item.recipe, "place": [item.mode, item.method, item.level, *item.datasets]}
        return hashlib.sha256(json.dumps(what, sort_keys=True, default=str).encode()).hexdigest()

    def is_stored(self, item: Item) -> bool:
        """Whether the item's results are there and of the same origin."""
        record = self.store.analysis(item.name)
        if record is None or record["origin"] != self.origin(item):
            return False
        cells = [
            Cell(self.evaluator.experiment, item.mode, item.method, item.level, name, 0)
            for name in item.datasets or self.inputs.sets
        ]
        return all(
            self.store.has(cell) and self.store.read(cell).settings["method"] == self.origin(item) for cell in cells
        )

    def announce(self, items: Sequence[Item], roles: Split) -> None:
        """Print how many recoveries are still to be done and about how long they take."""
        todo = [item for item in items if not self.is_stored(item)]
        recoveries, steps = sum(item.recoveries for item in todo), sum(item.steps for item in todo)
        click.echo(f"{len(items)} models, {len(items) - len(todo)} stored already; {recoveries} recoveries to make")
        if steps:
            model = self.inputs.adapted
            seconds = seconds_per_step(copy.deepcopy(model), model, roles, self.recovery)
            click.echo(
                f"{steps} optimiser steps, at most about {duration(steps * seconds)} "
                f"({seconds:.2f} s a step of the unpruned model; pruned ones are quicker)"
            )

    def run(self, items: Sequence[Item], order: Order) -> None:
        """Make, time and evaluate the items that are not stored yet, in order; on other machines by `order`."""
        todo = [item for item in items if not self.is_stored(item)]
        apart = executor().apart
        found = executor().map(make, order, {item.name: item.name for item in todo}) if apart else iter(())
        for item in todo:
            number = items.index(item) + 1
            click.echo(f"model {number} of {len(items)}: {item.mode} {item.method} {item.level}".rstrip(), err=True)
            made: Made | Cascaded = next(found) if apart else item.make()
            keep_plan(self.store, made.plan)
            key = model_hash(made.model)[:24]
            treatment = Treatment(key, _already(made.model))
            scoring = Measured(sum(stage.seconds for stage in made.stages))
            origin, experiment = self.origin(item), self.evaluator.experiment
            what = (item.method, item.mode, item.level, 0, made.plan, scoring)
            job = Job(*what, origin, treatment, experiment, item.datasets)
            record = {
                "origin": origin,
                "place": [item.mode, item.method, item.level, *item.datasets],
                "stages": [_stage(stage) for stage in made.stages],
                "latency": self._latency(made.model),
                "plan": made.plan.hash,
            }
            with here():
                self.evaluator.run([job])
            self.store.write_analysis(item.name, record)

    def _latency(self, model: nn.Module) -> dict[str, Any]:
        """Time the model and the unpruned one in turns, so that they meet the same machine."""
        found = compare_latency({UNPRUNED: self.inputs.adapted, "model": model}, part="model")
        return {name: asdict(each) for name, each in found.items()}


def _already(model: nn.Module) -> Callable[[nn.Module, Sequence[Plan]], list[nn.Module]]:
    """What builds a model that is there."""
    return lambda _unpruned, _plans: [model]


def unpruned(model: nn.Module) -> Cascaded:
    """The unpruned model as something that was made."""
    return Cascaded(model, None, make_plan(model, "h0_m0"), (), model)


def _stage(stage: Stage) -> dict[str, Any]:
    """What is kept of a stage: its losses and its validations."""
    record: dict[str, Any] = {"name": stage.name, "seconds": stage.seconds}
    if stage.history is not None:
        history = stage.history
        record |= {
            "losses": {name: list(map(float, history.frame[name])) for name in history.frame if name not in _AXES},
            # step, BF1, Dice, noise of each look
            "validations": [list(map(float, row)) for row in history.validations.to_numpy()],
            "best_step": history.best_step,
            "stopped_early": history.stopped_early,
            "share": history.share,
            # of an average no look tells it
            "kept": history.best.get("bf1"),
        }
    return record


def corrector(settings: Settings) -> Correct:
    """The correction of a run: what it refits a cut model with, towards the whole one."""
    samples = settings.counts.correction

    def apply(model: nn.Module, teacher: nn.Module, data: Split) -> None:
        correct(model, teacher, data, samples=samples, progress=False)

    return apply


def recovery_settings(settings: Settings, steps: int | None = None) -> RecoverySettings:
    """The recovery of a run, validated a dozen times, or fewer where no look chooses anything."""
    steps = steps or settings.counts.recovery_steps
    given = {"batch_size": settings.recovery_batch, "learning_rate": settings.recovery_rate}
    changed: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    # named, so that no machine takes another one for what it has
    changed |= {"average": settings.recovery_average, "precision": settings.recovery_precision or settings.precision}
    looks = _LOOKS_ON if settings.recovery_average else _VALIDATIONS
    return RecoverySettings(steps=steps, validate_every=max(1, steps // looks), **changed)


def records(store: ResultStore) -> dict[str, dict[str, Any]]:
    """The stored records of an experiment's models, by name."""
    names = sorted(path.stem for path in Path(store.root / "analysis").glob("model-*.json"))
    return {name: found for name in names if (found := store.analysis(name)) is not None}
