"""Recovery: fine-tuning a pruned model towards its unpruned teacher with the loss of Eq. 14 (METHOD section 8).

The image encoder and the mask decoder are trained, the prompt encoder stays frozen. Steps read the training images,
the choice of the weights reads the validation images, and test images are read by neither. Kept weights are never
reset to the reference.
"""

import copy
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import nn

from .._support.ahead import StepsAhead
from .._support.devices import require_default_dtype
from .._support.errors import DataError, MedcorePruneError
from .._support.machines.ranks import ranks
from .._support.records import Flag, Number, Record, Whole, content_hash
from ..data.reading import by_image
from ..data.samples import SampleSet, Subset, places_by_image, subset_hash
from ..data.splits.split import Data, check_roles, training_split
from ..models.calls.call import on_models
from ..models.families import geometry_of
from ..models.fingerprint import computation_hash
from ..models.pairs import remember_training, require_cut_from
from ..models.precision import products_in, training_precision
from ..models.switches import evaluating
from ..models.tiny_vit.stems import kept_stems
from .adapt import pool_size
from .average import Averaging
from .batches.augmentation import AUGMENTATIONS
from .batches.batch import Batch
from .follow import OnStep
from .judge import SCORES, Judge
from .loop import learning_rate_at, train
from .lost import warn_of_lost
from .objective import RecoveryLoss
from .pool import OBJECTS_AN_IMAGE, Pool
from .rate import rated
from .record import TrainRecord, outcome
from .settings import DEFAULT_RECOVERY, RecoverySettings, TrainSettings, deciding


@dataclass(frozen=True)
class _StoredTable(Record):
    """A table by rows, as sorted keys must not sort its columns."""

    columns: tuple[str, ...]
    data: tuple[tuple[Number, ...], ...]

    @classmethod
    def of_frame(cls, frame: pd.DataFrame) -> "_StoredTable":
        return cls(tuple(map(str, frame)), tuple(frame.itertuples(index=False, name=None)))

    def frame(self) -> pd.DataFrame:
        return pd.DataFrame([list(row) for row in self.data], columns=list(self.columns))


@dataclass(frozen=True)
class _StoredHistory(Record):
    frame: _StoredTable
    validations: _StoredTable
    best_step: Whole | None
    stopped_early: Flag
    seconds: Number
    outcome: str = ""
    averages: tuple[Mapping[str, Number], ...] = ()


@dataclass(frozen=True)
class RecoveryHistory:
    """A recovery from start to end.

    Attributes:
        frame: A row a step: `step` from 1, `learning_rate`, `loss`, and each active term of Eq. 14, unweighted.
        validations: A row a look at the validation images: `step`, the steps done before it, 0 being the start; `bf1`
            and `dice`, macro averages over data sets, and `noise`, the standard error of the paired difference of `bf1`
            from the best look before.
        best_step: Steps behind the weights that were kept; None where no look chose and the last were, or were averaged
            with the start.
        stopped_early: Whether a decline on the validation images ended it.
        seconds: Time of the steps, without validations.
        averages: Where the trained weights were averaged with the start's, for each `share` of them that was tried
            `bf1` and `dice`, those of the model that was kept first; empty otherwise.
    """

    frame: pd.DataFrame = field(repr=False)
    validations: pd.DataFrame = field(repr=False)
    best_step: int | None
    stopped_early: bool
    seconds: float
    averages: tuple[Mapping[str, float], ...] = ()

    @classmethod
    def of(cls, record: TrainRecord, settings: TrainSettings) -> "RecoveryHistory":
        """Lay out what a training recorded."""
        steps = range(len(record.losses))
        columns = {
            "step": [step + 1 for step in steps],
            "learning_rate": [learning_rate_at(step, settings) for step in steps],
            "loss": record.losses,
            **record.terms,
        }
        seen = record.validations
        if seen and record.averages:
            # what was looked at after the steps
            start = next(look for look in record.averages if look["share"] == 0)
            seen = [{"step": 0, **{name: start[name] for name in SCORES}, "noise": 1.0}, *seen]
        looks = pd.DataFrame(seen, columns=["step", *SCORES, "noise"]).astype({"step": int})
        ends = record.best_step, record.stopped_early, record.seconds, tuple(record.averages)
        return cls(pd.DataFrame(columns), looks, *ends)

    @property
    def start(self) -> Mapping[str, float]:
        """`bf1` and `dice` on validation images before the first step; empty without validations."""
        return self._scores_of(0.0) if self.averages else self._scores_at(0)

    @property
    def best(self) -> Mapping[str, float]:
        """`bf1` and `dice` on validation images of the weights that were kept; empty without validations."""
        return self._scores_of(self.share) if self.averages else self._scores_at(self.best_step)

    @property
    def share(self) -> float | None:
        """Share of the trained weights in the average that was kept; None without averages."""
        return self.averages[0]["share"] if self.averages else None

    @property
    def gained(self) -> bool | None:
        """Whether what was kept is better than the start on validation images; None where none chose."""
        chosen = self.best_step if self.share is None else self.share
        return None if chosen is None else chosen > 0

    @property
    def outcome(self) -> str:
        """What came back, in words."""
        return outcome(self.best_step, self.share)

    def _scores_at(self, step: int | None) -> dict[str, float]:
        rows = self.validations[self.validations["step"] == step]
        return {} if rows.empty else {name: float(rows.iloc[0][name]) for name in SCORES}

    def _scores_of(self, share: float | None) -> dict[str, float]:
        return next({name: look[name] for name in SCORES} for look in self.averages if look["share"] == share)

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values from which `from_dict` makes the history again, to the last digit."""
        stored = _StoredHistory(
            frame=_StoredTable.of_frame(self.frame),
            validations=_StoredTable.of_frame(self.validations),
            best_step=self.best_step,
            stopped_early=self.stopped_early,
            seconds=self.seconds,
            outcome=self.outcome,
            averages=self.averages,
        ).values()
        if not self.averages:
            del stored["averages"]
        return stored

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "RecoveryHistory":
        """Read what `to_dict` gave.

        Raises:
            RecordError: Entries that are missing or cannot be.
        """
        stored = _StoredHistory.of(values, "the history")
        tables = stored.frame.frame(), stored.validations.frame()
        return cls(*tables, stored.best_step, stored.stopped_early, stored.seconds, stored.averages)


METHOD_VERSION = 3
"""Raised whenever the same inputs would give another result, so that stored recoveries are made anew."""
_FROZEN = "prompt_encoder."


@on_models("model", "teacher")
def recover(
    model: nn.Module,
    teacher: nn.Module,
    data: Data,
    settings: RecoverySettings = DEFAULT_RECOVERY,
    *,
    state_path: str | Path | None = None,
    at_a_time: int | None = None,
    progress: bool = True,
    on_step: OnStep | None = None,
) -> RecoveryHistory:
    """Fine-tune a pruned model in place towards its teacher.

    Image encoder and mask decoder are trained; the prompt encoder is frozen, and so is whatever was frozen before. The
    weights kept are those with the best Boundary F1 on the validation images (macro average, 256 grid), the start
    among them; without validation images, the last; with `settings.average`, an average. An `autocast` block around
    the call has no part in it.

    Memory: training images as bytes at 4/3 of the input size (7.5 MB an image at 1024 px, up to 4 GB; what is beyond is
    read again when it is drawn), the teacher's weights, AdamW's two moments, the best weights so far, and the
    activations of one batch. The teacher sees every batch as it is augmented, so nothing of it is kept from step to
    step; nor do two draws of one image share anything.

    Args:
        model: The pruned `Sam`, float32; ends in evaluation mode.
        teacher: The unpruned adapted model on the same device; left as it is.
        data: Training images for the steps, validation images for the choice. Images by data set are all for training.
        settings: How to recover.
        state_path: Where the resumable state is kept: a killed recovery that is started again ends in the same
            weights, to the last bit on one kind of processor and number of threads. None keeps none.
        at_a_time: Most images that go through the model together, for less memory; by default a whole batch.
        progress: Show how far it is.
        on_step: Called after every step with its number and numbers by name (`training.follow.OnStep`), as by
            `TensorBoardLog`.

    Returns:
        Losses, validations, and what was kept.

    Raises:
        DataError: No training image; no validation image to choose an average on; or an image, or a group, in two
            roles.
        SurgeryError: The model cannot have been cut from its teacher, as where the two are given in the other order.
        MedcorePruneError: A model that is not float32 or has nothing to train, a teacher on another device, a loss
            that stops being finite (names the step and the last good state), a state file of another recovery, or
            torch's default dtype is not float32.
    """
    _check_models(model, teacher)
    settings = rated(settings, model)
    parts = training_split(data, "recovery")
    check_roles(parts.roles())
    pool = _pool(model, parts.train)
    judge = Judge(parts.validation, geometry_of(model).frame, at_a_time)
    average = None
    if settings.average:
        average = Averaging(model, judge, sum(len(each) for each in judge.sets))
    training = settings.training()
    identity = "" if state_path is None else recovery_key(model, teacher, parts, settings)
    # the teacher's stem is the student's, and validation images come again at every look
    with evaluating(teacher), kept_stems():
        record = train(
            model,
            StepsAhead(_slices(pool, model, settings), settings.steps * settings.accumulate, ranks().count),
            training,
            state_path,
            loss_of=RecoveryLoss(teacher, settings.weights, settings.lambda_b, settings.precision),
            validate=judge if judge.sets else None,
            # an average has the start among its shares
            validate_start=not average,
            patience=settings.patience,
            label="recovery",
            identity=identity,
            at_a_time=at_a_time,
            progress=progress,
            on_step=on_step,
            ranks=ranks(),
        )
        if average:
            device = next(model.parameters()).device
            # as the looks of the training
            with products_in(training_precision(settings.precision, device), device):
                average(model, record, looked=True)
    remember_training(model, places_by_image(parts.train))
    return RecoveryHistory.of(record, training)


@on_models("model", "teacher")
def recovery_key(model: nn.Module, teacher: nn.Module, data: Data, settings: RecoverySettings) -> str:
    """SHA-256 (hex) of everything that decides a recovery's result besides the processor it runs on.

    Both models with their sizes, which parameters are frozen, the training and validation images with their sets in
    order, which training samples show one image where some do, the settings, the precision that they come to here, and
    the version of the method.
    """
    device, settings = next(model.parameters()).device, rated(settings, model)
    trained = [name for name, value in model.named_parameters() if value.requires_grad and not _is_prompt(name)]
    roles = training_split(data, "recovery")
    images = {name: by_image(samples) for name, samples in roles.train.items()}
    several = any(len(each) < len(roles.train[name]) for name, each in images.items())
    parts = {
        **({"images": list(images.values()), "objects_an_image": OBJECTS_AN_IMAGE} if several else {}),
        "method": METHOD_VERSION,
        "model": computation_hash(model),
        "teacher": computation_hash(teacher),
        "trained": trained,
        "train": [subset_hash(samples) for samples in roles.train.values()],
        "validation": [subset_hash(samples) for samples in roles.validation.values()],
        "settings": {**deciding(asdict(settings)), "precision": training_precision(settings.precision, device)},
    }
    return content_hash(parts)


@on_models("model", "teacher")
def seconds_per_step(model: nn.Module, teacher: nn.Module, data: Data, settings: RecoverySettings) -> float:
    """Time a step of a recovery, without validation, for an estimate: the second of two, on a copy of the model.

    Args:
        model, teacher, data, settings: As for `recover`; nothing is changed.

    Returns:
        Seconds a step.

    Raises:
        As for `recover`.
    """
    _check_models(model, teacher)
    settings = rated(settings, model)
    train_sets = training_split(data, "recovery").train
    few = {name: Subset(each, _first_images(each, 4), name) for name, each in train_sets.items() if len(each)}
    trial = copy.deepcopy(model)
    pool = _pool(trial, few)
    loss_of = RecoveryLoss(teacher, settings.weights, settings.lambda_b, settings.precision)
    two = replace(settings.training(), steps=2, validate_every=0)
    moments: list[float] = []
    make = StepsAhead(_slices(pool, trial, settings), two.steps * two.accumulate)

    def timed(number: int) -> Batch:
        moments.append(time.perf_counter())
        return make(number)

    with evaluating(teacher), kept_stems():
        train(trial, timed, two, loss_of=loss_of, progress=False)
    return time.perf_counter() - moments[-two.accumulate]


def _first_images(samples: SampleSet, count: int) -> tuple[int, ...]:
    """Positions of all samples that show one of the first images."""
    return tuple(position for image in by_image(samples)[:count] for position in image)


def _slices(pool: Pool, model: nn.Module, settings: RecoverySettings) -> Callable[[int], Batch]:
    """What makes the slices of all batches, numbered through."""
    frame, augment = geometry_of(model).frame, AUGMENTATIONS[settings.augmentation]
    device = next(model.parameters()).device

    def make(number: int) -> Batch:
        step, place = divmod(number, settings.accumulate)
        part = place, settings.accumulate
        drawn = pool.batch(step, seed=settings.seed, count=settings.batch_size, frame=frame, augment=augment, part=part)
        return drawn.pinned_for(device)

    return make


def _pool(model: nn.Module, sets: Mapping[str, SampleSet]) -> Pool:
    held = [samples for samples in sets.values() if len(samples)]
    if not held:
        raise DataError(
            "there is no image to recover on: the training split is empty; give it a larger share, or add images"
        )
    pool = Pool.of_sets(held, pool_size(model))
    warn_of_lost(pool, "training")
    return pool


def _is_prompt(name: str) -> bool:
    return name.startswith(_FROZEN)


def _check_models(model: nn.Module, teacher: nn.Module) -> None:
    require_default_dtype()
    require_cut_from(model, teacher)
    for what, each in (("model", model), ("teacher", teacher)):
        other = {p.dtype for p in each.parameters()} - {torch.float32}
        if other:
            raise MedcorePruneError(
                f"the {what} has weights of {', '.join(sorted(map(str, other)))}, expected torch.float32 alone: "
                "call .float() on it first and save it in half precision afterwards"
            )
    ours, theirs = (next(each.parameters()).device for each in (model, teacher))
    if ours != theirs:
        raise MedcorePruneError(f"the model is on {ours} and its teacher on {theirs}: put both on one device")
    if not any(p.requires_grad and not _is_prompt(name) for name, p in model.named_parameters()):
        raise MedcorePruneError("every parameter of the model is frozen: nothing could be recovered")
