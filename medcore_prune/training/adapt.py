"""Adapting a SAM to one's own images: the fine-tuning that turns SAM into MedSAM."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn

from .._support.ahead import StepsAhead, ahead
from .._support.devices import require_default_dtype
from .._support.errors import DataError
from .._support.machines.ranks import ranks
from ..data.samples import SampleSet, places_by_image
from ..models.calls.call import on_models
from ..models.families import geometry_of
from ..models.fingerprint import computation_hash
from ..models.losses import plain_loss
from ..models.pairs import remember_training
from ..models.protocol import embed
from .average import Averaging
from .batches.augmentation import AUGMENTATIONS
from .batches.batch import Batch
from .follow import OnStep
from .judge import Judge
from .loop import train
from .lost import warn_of_lost
from .objective import outputs_of
from .pool import Pool
from .record import Scores, TrainRecord
from .settings import AdaptSettings, TrainSettings

# images are pooled a little larger than the input, so that zooming in does not blur
_POOL_SCALE = 4 / 3
_VALIDATION_BATCH = 32

BLIND_BELOW = 0.02
"""`image_dependence` below which a model is said to ignore its images."""


@on_models("model")
def adapt_pool(
    model: nn.Module,
    pool: Pool,
    settings: AdaptSettings,
    state_path: str | Path,
    *,
    validation: Pool | None = None,
    at_a_time: int | None = None,
    on_step: OnStep | None = None,
) -> TrainRecord:
    """Fine-tune a model in place on a pool, as `adapt` on data sets; without validation images the last weights."""
    frame = geometry_of(model).frame
    augment = AUGMENTATIONS[settings.augmentation]

    device = next(model.parameters()).device

    def slices(number: int) -> Batch:
        step, place = divmod(number, settings.accumulate)
        return pool.batch(
            step,
            seed=settings.seed,
            count=settings.batch_size,
            frame=frame,
            prompts=settings.prompts,
            augment=augment,
            part=(place, settings.accumulate),
        ).pinned_for(device)

    training = TrainSettings(
        steps=settings.steps,
        learning_rate=settings.learning_rate,
        warmup=max(1, min(150, settings.steps // 10)),
        validate_every=settings.validate_every if validation is not None else 0,
        precision=settings.precision,
        accumulate=settings.accumulate,
        average=settings.average,
    )

    def validate(trained: nn.Module) -> Scores:
        assert validation is not None
        loss = validation_loss(trained, validation, at_a_time, all_masks=settings.prompts is None)
        return Scores({"score": -loss, "loss": loss})

    # as it comes to, where no image has more to draw
    told = replace(settings, prompts=1) if settings.prompts is None and pool.one_each else settings
    parts = (computation_hash(model), pool.hash, "" if validation is None else validation.hash, repr(told))
    identity = hashlib.sha256(" ".join(parts).encode()).hexdigest()
    return train(
        model,
        StepsAhead(slices, settings.steps * settings.accumulate, ranks().count),
        training,
        state_path,
        validate=None if validation is None else validate,
        validate_start=True,
        identity=identity,
        at_a_time=at_a_time,
        on_step=on_step,
        ranks=ranks(),
    )


@torch.no_grad()
def validation_loss(model: nn.Module, pool: Pool, at_a_time: int | None = None, all_masks: bool = False) -> float:
    """Mean Dice + BCE over the masks of a pool, or over the first of each image, without augmentation.

    Each image is encoded once; at most so many images, and masks, go through the model together.
    """
    frame, device = geometry_of(model).frame, next(model.parameters()).device
    count = min(_VALIDATION_BATCH, at_a_time or _VALIDATION_BATCH)
    spans = _spans(pool.masks if all_masks else [1] * len(pool), count)
    read = ahead(pool.in_order(start, stop, frame, masks) for start, stop, masks in spans)
    losses, sizes, embeddings = list[Tensor](), list[int](), None
    for batch, (_, _, masks) in zip(read, spans, strict=True):
        there = batch.to(device)
        outputs = outputs_of(model, there, embeddings=embeddings if masks.start else None)
        losses.append(plain_loss(outputs.logits, there.masks).mean())
        sizes.append(len(batch.boxes))
        embeddings = outputs.embeddings
    total = 0.0
    for loss, size in zip(torch.stack(losses).tolist(), sizes, strict=True):
        total += loss * size
    return total / sum(sizes)


def _spans(masks: Sequence[int], count: int) -> list[tuple[int, int, slice]]:
    """Cut images, of so many masks each, into spans with the slice of their masks that goes through a model together.

    A span is of several images as long as `count` has room for the most masks on each; more masks of one image come in
    several spans, one after the other.
    """
    spans, start = list[tuple[int, int, slice]](), 0
    while start < len(masks):
        stop = start + 1
        while stop < len(masks) and (stop + 1 - start) * max(masks[start : stop + 1]) <= count:
            stop += 1
        most = max(masks[start:stop])
        # one slice, but for an image that has more than goes together
        spans += [(start, stop, slice(at, min(at + count, most))) for at in range(0, most, count)]
        start = stop
    return spans


@torch.no_grad()
def image_dependence(model: nn.Module, images: Tensor) -> float:
    """Deviation of the image embedding over images, as a share of its whole deviation, in [0, 1].

    A small model that is trained from nothing can end in a place where it answers with the box alone: its embedding is
    the same whatever the image, and no statistic of its encoder means anything. `images` are (B, 3, S, S) from
    `protocol.batch_of`, B at least 2.
    """
    embedding = embed(model, images)
    return float(embedding.std(0).mean() / embedding.std().clamp(min=1e-12))


def pool_size(model: nn.Module) -> int:
    """Side in pixels at which training images are held for a model."""
    return round(geometry_of(model).image_size * _POOL_SCALE)


@on_models("model")
def adapt(
    model: nn.Module,
    train: Mapping[str, SampleSet],
    validation: Mapping[str, SampleSet],
    settings: AdaptSettings,
    state_path: str | Path,
    *,
    at_a_time: int | None = None,
    on_step: OnStep | None = None,
) -> TrainRecord:
    """Fine-tune a model in place on data sets.

    Args:
        model: A `Sam`: the reference to start from.
        train: Data set name to training images.
        validation: Data set name to validation images, which choose the weights to keep, those of the start among
            them; empty sets keep the last.
        settings: How to adapt.
        state_path: Where the resumable state is kept.
        at_a_time: As for `adapt_pool`.
        on_step: Called after every step with its number and numbers by name (`training.follow.OnStep`), as by
            `TensorBoardLog`.

    Returns:
        As for `adapt_pool`.

    Raises:
        DataError: No training image at all, or no validation image to choose an average on.
        MedcorePruneError: The loss stops being finite, or torch's default dtype is not float32.
    """
    require_default_dtype()
    if not sum(len(images) for images in train.values()):
        raise DataError(
            "there is no image to train on: the training split is empty; give it a larger share, or add images"
        )
    size = pool_size(model)
    held = [images for images in validation.values() if len(images)]
    average = None
    if settings.average:
        average = Averaging(model, Judge(validation, geometry_of(model).frame, at_a_time), sum(map(len, held)))
    trained = Pool.of_sets(train.values(), size)
    warn_of_lost(trained, "training")
    judged = Pool.of_sets(held, size) if held else None
    if judged is not None:
        warn_of_lost(judged, "validation")
    record = adapt_pool(model, trained, settings, state_path, validation=judged, at_a_time=at_a_time, on_step=on_step)
    if average:
        average(model, record)
    remember_training(model, places_by_image(train))
    return record
