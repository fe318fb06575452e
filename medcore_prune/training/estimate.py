"""What a recovery will take: two of its steps are run without numbers, and a batch of its validation."""

from dataclasses import dataclass, replace

import torch
from torch import nn

from .._support.machines.ranks import ranks
from ..evaluation.estimates import (
    Estimate,
    PredictionStep,
    held_images,
    held_masks,
    on_device,
    remedies,
    seconds_per_image,
    shared,
)
from ..evaluation.evaluate import BATCH_SIZE
from ..evaluation.memory import peak_bytes
from ..models.calls.call import on_models
from ..models.protocol import blank_batch
from ..models.switches import is_checkpointing, set_checkpointing
from .adapt import pool_size
from .batches.batch import Batch
from .loop import train
from .objective import Loss, RecoveryLoss
from .pool import POOL_BYTES
from .rate import rated
from .record import Scores
from .settings import DEFAULT_RECOVERY, RecoverySettings

_RGB = 3


@dataclass(frozen=True)
class _Steps:
    """The training of `recover`: a slight step, which leaves gradients, moments and best weights, and a real one.

    Validation images are looked at before the first and after the last; where there are any but no step for a batch of
    them, weights are kept without a look.
    """

    settings: RecoverySettings
    validates: bool
    look: PredictionStep | None
    recomputes: bool
    at_a_time: int
    objects: int

    @torch.inference_mode(False)
    def __call__(self, model: nn.Module, teacher: nn.Module) -> None:
        settings = self.settings
        set_checkpointing(model, self.recomputes)
        real = RecoveryLoss(teacher, settings.weights, settings.lambda_b, settings.precision)
        now = 0

        # a second slice meets the gradients of the first, and a third no more than that
        slices = min(2, settings.accumulate)

        def slice_of(number: int) -> Batch:
            nonlocal now
            now = number // slices
            return _blank(model, settings.batch_size // settings.accumulate, self.objects)

        train(
            model,
            slice_of,
            replace(settings.training(), steps=2, validate_every=2 if self.validates else 0, accumulate=slices),
            loss_of=lambda trained, batch: (real if now else _slight)(trained, batch),
            validate=self._look if self.validates else None,
            validate_start=True,
            at_a_time=self.at_a_time,
            progress=False,
        )

    def _look(self, model: nn.Module) -> Scores:
        if self.look is not None:
            self.look(model)
        return Scores({"bf1": 0.0})


def _slight(model: nn.Module, batch: Batch) -> Loss:
    return Loss(torch.stack([value.sum() for value in model.parameters() if value.requires_grad]).sum())


@on_models("model", "teacher")
def recovery_estimate(
    model: nn.Module,
    teacher: nn.Module,
    settings: RecoverySettings = DEFAULT_RECOVERY,
    *,
    images: int = 0,
    validation_images: int = 0,
    objects: int = 1,
    checkpointing: bool | None = None,
    at_a_time: int | None = None,
    trial: bool = True,
) -> Estimate:
    """Estimate `recover`, in float32.

    Args:
        model, teacher, settings, at_a_time: As for `recover`.
        images: Training images, which are held as bytes, each with one mask.
        validation_images: Images of each look at the validation split.
        objects: Most objects of an image that are trained on together (`training.pool.most_objects`).
        checkpointing, trial: As for `calibration_estimate`.

    Returns:
        The estimate.
    """
    settings = rated(settings, model)
    recomputes = is_checkpointing(model) if checkpointing is None else checkpointing
    validates = bool(settings.validate_every and validation_images)
    looks = 1 + settings.steps // settings.validate_every if validates else 0
    steps, checks = settings.steps * settings.batch_size, looks * validation_images
    trained = sum(
        p.numel() * p.element_size() for name, p in model.named_parameters() if not name.startswith("prompt_encoder.")
    )
    # AdamW's two moments, the gradients, and the best weights so far, which no average keeps
    optimiser = (4 if validates and not settings.average else 3) * trained
    sliced = settings.batch_size // settings.accumulate
    together = min(sliced, at_a_time or sliced)
    look = PredictionStep(min(BATCH_SIZE, at_a_time or BATCH_SIZE, validation_images)) if validates else None
    training = _Steps(settings, validates, look, recomputes, together, objects)
    whole = work = peak_bytes(training, model, teacher) - optimiser
    if validates and at_a_time is None:
        # a smaller batch would leave as many to look at together
        work = peak_bytes(replace(training, look=None), model, teacher) - optimiser
    seconds = None
    if trial:
        own, taught = (seconds_per_image(trained, objects) for trained in (model, teacher))
        each = steps / ranks().count
        # a look at one box an image is a little quicker
        seconds = (each * (4 if recomputes else 3) + checks) * own + each * taught
    return Estimate(
        work="recovery",
        passes=steps + checks,
        batch_size=together,
        fixed={
            # an average keeps the start too
            "optimiser": optimiser + (trained if settings.average else 0),
            "images": _images(model, images, validation_images if validates else 0, sliced, objects),
            "masks": held_masks(model, validation_images if validates else 0),
            "validation": whole - work,
            # gradients on their way to other processes
            **({"processes": trained} if ranks().count > 1 else {}),
        },
        per_image={"work": shared(work, together)},
        # a state holds weights, moments and best weights
        disk_bytes=4 * trained,
        seconds=seconds,
        device=str(next(model.parameters()).device),
        remedies=(*remedies(model, recomputes), *(["validate_every=0"] if whole > work else [])),
    )


def _blank(model: nn.Module, count: int, objects: int, device: str | None = None) -> Batch:
    """Make a batch that shows nothing, of images with so many objects each."""
    images, boxes, masks = blank_batch(model, count, device)
    return Batch(images, boxes.repeat_interleave(objects, dim=0), masks.repeat_interleave(objects, dim=0))


def _images(model: nn.Module, images: int, validation_images: int, batch_size: int, objects: int) -> int:
    """Most bytes of the images that are kept, and of the batch that is made while another one is trained on."""
    looked_at = held_images(model, validation_images)
    if on_device(model).type != "cpu":
        return looked_at
    pool = min(POOL_BYTES, images * (_RGB + 1) * pool_size(model) ** 2)
    made = _blank(model, batch_size, objects, "meta")
    return pool + looked_at + (sum(part.nbytes for part in (made.images, made.boxes, made.masks)) if images else 0)
