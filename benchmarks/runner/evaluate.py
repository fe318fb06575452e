"""Masks to stored cells: the floors, the unpruned model, and each distinct plan once on each data set."""

import hashlib
import json
import platform
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

from torch import nn

from ..._support.machines.executor import executor
from ..._support.progress import track
from ...data.samples import SampleSet, Subset
from ...evaluation.evaluate import Masks, predict, score
from ...evaluation.floors import FLOORS, floor_masks
from ...evaluation.images import KEPT_BYTES, EvaluationSet
from ...evaluation.packed import PackedMasks
from ...models.precision import Precision
from ...models.protocol import Postprocess
from ...pruning.cost import Cost, count
from ...pruning.plan import Plan
from ...zoo import LITE_MEDSAM, NOTICE
from .inputs import Inputs, inputs_again
from .jobs import EXPERIMENT, Group, Job, built, grouped
from .kept import KeptMasks
from .settings import Settings
from .store import NO_LEVEL, UNPRUNED, Cell, CellResult, Evaluation, ResultStore, evaluation_key

OFFERED: tuple[Precision, ...] = ("fp32", "tf32")
"""What experiments compute in: in bf16 models would differ by its rounding."""
POSTPROCESS: Postprocess = "medsam"
FLOOR_NAMES = {name: f"floor_{name}" for name in FLOORS}
"""Floors of `evaluation` to the names of their rows."""

_PACKAGES = ("medcore-prune", "torch", "torch-pruning", "segment-anything", "numpy", "scipy", "scikit-image")


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that the numbers come from."""
    return {"python": platform.python_version(), **{name: version(name) for name in _PACKAGES}}


def digest(drawn: Mapping[str, SampleSet]) -> str:
    """Hash samples that statistics are collected on, as data sets and in order."""
    samples = {name: list(zip(each.ids, each.hashes(), strict=True)) for name, each in drawn.items()}
    return hashlib.sha256(json.dumps(samples).encode()).hexdigest()


@dataclass(frozen=True)
class Evaluator:
    """Evaluates what is not stored yet, for the command that the cells belong to.

    `samples_of` is calibration draw to the hash of its samples, filled in when they are known; `kept` has the masks
    that this process predicted.
    """

    inputs: Inputs
    settings: Settings
    store: ResultStore
    samples_of: dict[int, str] = field(default_factory=dict)
    experiment: str = EXPERIMENT
    kept: KeptMasks = field(default_factory=KeptMasks)

    @cached_property
    def images(self) -> dict[str, EvaluationSet]:
        """The test sets, made ready once."""
        frame, grid, sets = self.inputs.frame, self.settings.eval_size, self.inputs.sets
        kept = KEPT_BYTES // max(1, len(sets))
        ready = {name: EvaluationSet(samples, frame, grid, kept) for name, samples in sets.items()}
        for images in ready.values():
            images.warn()
        return ready

    @cached_property
    def _scoring_settings(self) -> dict[str, Any]:
        return {
            "eval_size": self.settings.eval_size,
            "tolerance_px": self.settings.tolerance_px,
            "postprocess": POSTPROCESS,
        }

    @cached_property
    def _versions(self) -> dict[str, str]:
        return versions()

    def _precision(self, masks: str) -> str | None:
        """What a network computes its masks in; a floor uses none."""
        return None if masks in FLOOR_NAMES.values() else self.settings.precision

    def _what(self, masks: str, dataset: str) -> dict[str, Any]:
        """What the evaluation of `masks` (a plan's hash, a floor, or the unpruned model) depends on."""
        of_model = masks not in FLOOR_NAMES.values()
        return {
            "masks": masks,
            "model": self.inputs.hashes["adapted"] if of_model else None,
            "image_size": self.inputs.frame.size if of_model else None,
            "precision": self._precision(masks),
            "data": self.inputs.hashes[f"data/{dataset}"],
            **self._scoring_settings,
        }

    def key(self, masks: str, dataset: str) -> str:
        """Key of an evaluation."""
        return evaluation_key(**self._what(masks, dataset))

    def _evaluated(self, masks: str, dataset: str, make: Callable[[EvaluationSet], PackedMasks]) -> Evaluation:
        images, key = self.images[dataset], self.key(masks, dataset)
        start = time.perf_counter()
        found = make(images)
        table = score(found, images, tolerance_px=self.settings.tolerance_px)
        seconds = time.perf_counter() - start
        self.kept.keep(key, found)
        return Evaluation(key, table, seconds)

    def masks_of(self, masks: str, few: Subset, ready: EvaluationSet, model: Callable[[], nn.Module]) -> Masks:
        """Masks of a few images of a test set, the same made `ready`: as this process predicted them, or by `model`."""
        kept = self.kept.of(self.key(masks, few.name), few.indices)
        return predict(model(), ready, postprocess=POSTPROCESS) if kept is None else kept

    def _evaluate(self, masks: str, dataset: str, make: Callable[[EvaluationSet], PackedMasks]) -> None:
        self.store.write_evaluation(self._evaluated(masks, dataset, make), self._what(masks, dataset))

    def evaluate_group(self, group: Group) -> Iterator[Evaluation]:
        """Make the models of a group, and evaluate them; nothing is stored."""
        made = built(self.inputs.adapted, list({job.masks: job for job, _ in group}.values()))
        for job, dataset in group:
            yield self._evaluated(job.masks, dataset, self._predict(made[job.masks]))

    def __reduce__(self) -> tuple[Any, ...]:
        # another process loads models and images itself: settings say which
        hashes = tuple(sorted(self.inputs.hashes.items()))
        return _evaluator_again, (self.settings, hashes, self.store.root, self.experiment)

    def _predict(self, model: nn.Module) -> Callable[[EvaluationSet], PackedMasks]:
        return partial(predict, model, postprocess=POSTPROCESS, batch_size=self.settings.batch_size)

    def _missing(self, masks: str, dataset: str) -> bool:
        return self.store.evaluation(self.key(masks, dataset)) is None

    def run_unpruned(self) -> None:
        """Evaluate and store what is not pruned: the floors, then the whole model."""
        for dataset in self.inputs.sets:
            for floor, name in FLOOR_NAMES.items():
                if self._missing(name, dataset):
                    self._evaluate(name, dataset, partial(floor_masks, floor))
                self._write(Cell(self.experiment, "any", name, NO_LEVEL, dataset, 0), name)
            if self._missing(UNPRUNED, dataset):
                self._evaluate(UNPRUNED, dataset, self._predict(self.inputs.adapted))
            dense = self._dense_cost
            cost = {"params": dense.params, "params_removed": 0.0, "flops": dense.flops, "flops_removed": 0.0}
            self._write(Cell(self.experiment, "any", UNPRUNED, NO_LEVEL, dataset, 0), UNPRUNED, cost)

    def missing(self, jobs: Sequence[Job]) -> list[tuple[Job, str]]:
        """One job of each distinct model and the data sets that it has not been evaluated on, model by model."""
        distinct = {job.masks: job for job in reversed(jobs)}
        pairs = dict.fromkeys((job.masks, name) for job in jobs for name in job.datasets or self.inputs.sets)
        return [(distinct[masks], dataset) for masks, dataset in pairs if self._missing(masks, dataset)]

    def run(self, jobs: Sequence[Job]) -> None:
        """Evaluate all distinct models, with the groups physically gone, and write every cell as it becomes known."""
        waiting: dict[tuple[str, str], list[Job]] = {}
        for job in jobs:
            for dataset in job.datasets or self.inputs.sets:
                waiting.setdefault((job.masks, dataset), []).append(job)
        todo = self.missing(jobs)
        still_open = {(job.masks, dataset) for job, dataset in todo}
        for place, arrived in waiting.items():
            if place not in still_open:
                self._write_jobs(arrived, place[1])
        groups = grouped(todo)
        named = {f"evaluation {number} of {group[0][0].method}": group for number, group in enumerate(groups)}
        found = executor().map(Evaluator.evaluate_group, self, named)
        pairs = [pair for group in groups for pair in group]
        for (job, dataset), done in zip(pairs, track(found, "evaluating pruned models", total=len(todo)), strict=True):
            self.store.write_evaluation(done, self._what(job.masks, dataset))
            self._write_jobs(waiting[job.masks, dataset], dataset)

    def _write_jobs(self, jobs: Sequence[Job], dataset: str) -> None:
        for job in jobs:
            cell = job.cell(dataset)
            key = self.key(job.masks, dataset)
            stored = self.store.read(cell) if self.store.has(cell) else None
            now = (job.plan.hash, key, job.scored_by)
            if stored is None or (stored.plan, stored.evaluation, stored.settings.get("method")) != now:
                self._write(cell, job.masks, self._cost(job.plan), job)

    @cached_property
    def _dense_cost(self) -> Cost:
        return count(self.inputs.adapted)

    @cached_property
    def _costs(self) -> dict[str, dict[str, float]]:
        """By the hash of a plan, which several data sets, and the same plan corrected, have in common."""
        return {}

    def _cost(self, plan: Plan) -> dict[str, float]:
        if plan.hash not in self._costs:
            self._costs[plan.hash] = self._counted(plan)
        return self._costs[plan.hash]

    def _counted(self, plan: Plan) -> dict[str, float]:
        dense, left = self._dense_cost, count(self.inputs.adapted, plan)
        return {
            "params": left.params,
            "params_removed": left.params_removed(dense),
            "flops": left.flops,
            "flops_removed": left.flops_removed(dense),
            "heads_removed": plan.effective_fraction("heads"),
            "neurons_removed": plan.effective_fraction("neurons"),
        }

    def _write(self, cell: Cell, masks: str, cost: Mapping[str, float] | None = None, job: Job | None = None) -> None:
        evaluation = self.store.evaluation(self.key(masks, cell.dataset))
        assert evaluation is not None
        inputs: dict[str, Any] = {**self.inputs.hashes}
        if job is not None:
            inputs["calibration"] = self.samples_of.get(job.seed % self.settings.seeds)
        result = CellResult(
            cell,
            evaluation.key,
            evaluation.metrics,
            evaluation.empty,
            len(evaluation.images),
            plan=job.plan.hash if job else "",
            cost=cost or {},
            seconds={"evaluation": evaluation.seconds, **({"scoring": job.scoring.seconds} if job else {})},
            peak_bytes=job.scoring.peak_bytes if job else 0,
            inputs=inputs,
            settings={
                **self._scoring_settings,
                "precision": self._precision(masks),
                "quotas": job.plan.quotas if job else None,
                "method": job.scored_by if job else None,
                "treatment": job.treatment.key if job and job.treatment else None,
            },
            versions=self._versions,
        )
        self.store.write(result)


def _evaluator_again(
    settings: Settings, hashes: tuple[tuple[str, str | None], ...], root: Path, experiment: str
) -> Evaluator:
    return Evaluator(inputs_again(settings, hashes), settings, ResultStore(root), experiment=experiment)


_TRIAL_IMAGES = 4
_TRIALS = 3


def seconds_an_image(evaluator: Evaluator) -> float:
    """Time predicting and scoring a few images with the unpruned model; the quickest trial, as others are disturbed."""
    name, samples = next(iter(evaluator.inputs.sets.items()))
    few = Subset(samples, tuple(range(min(_TRIAL_IMAGES, len(samples)))), name)
    images = EvaluationSet(few, evaluator.inputs.frame, evaluator.settings.eval_size)
    elapsed = []
    for _ in range(_TRIALS):
        start = time.perf_counter()
        score(predict(evaluator.inputs.adapted, images, batch_size=evaluator.settings.batch_size), images)
        elapsed.append(time.perf_counter() - start)
    return min(elapsed) / len(images)


def notice(inputs: Inputs, settings: Settings) -> str:
    """What every output says of itself."""
    if inputs.is_phantom:
        return NOTICE
    what = "pocket model made with phantom images" if inputs.is_pocket else "research comparison"
    said = f"{what}: not a clinical result"
    if LITE_MEDSAM not in (settings.adapted, settings.reference):
        return said
    return (
        f"{said}. LiteMedSAM's training data may have held public images of these sets: that touches the level of all "
        "rows, not their differences"
    )


def duration(seconds: float) -> str:
    """Write seconds as people say them."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
