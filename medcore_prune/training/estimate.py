"""What a recovery will take: two of its steps are run without numbers, and a batch of its validation."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import nn

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
from ..models.protocol import blank_batch
from ..models.switches import is_checkpointing, set_checkpointing
from .adapt import pool_size
from .loop import Loss, train
from .objective import RecoveryObjective
from .pool import Batch
from .settings import DEFAULT_RECOVERY, RecoverySettings

_RGB = 3


@dataclass(frozen=True)
class _Steps:
    """The training of `recover`: a slight step, which leaves gradients, moments and best weights, and a real one."""

    settings: RecoverySettings
    validates: bool
    recomputes: bool

    @torch.inference_mode(False)
    def __call__(self, model: nn.Module, teacher: nn.Module) -> None:
        settings = self.settings
        set_checkpointing(model, self.recomputes)
        real = RecoveryObjective(teacher, settings.weights, settings.lambda_b, settings.mixed_precision)
        objectives = iter((_slight, real))
        train(
            model,
            lambda step: Batch(*blank_batch(model, settings.batch_size)),
            # looked at before the first step and after the last
            replace(settings.training(), steps=2, validate_every=2 if self.validates else 0),
            objective=lambda trained, batch: next(objectives)(trained, batch),
            validate=_unjudged if self.validates else None,
            validate_start=True,
            progress=False,
        )


def _slight(model: nn.Module, batch: Batch) -> Loss:
    return Loss(torch.stack([value.sum() for value in model.parameters() if value.requires_grad]).sum())


def _unjudged(_model: nn.Module) -> Mapping[str, float]:
    return {"bf1": 0.0}


def recovery_estimate(
    model: nn.Module,
    teacher: nn.Module,
    settings: RecoverySettings = DEFAULT_RECOVERY,
    *,
    images: int = 0,
    validation_images: int = 0,
    checkpointing: bool | None = None,
    trial: bool = True,
) -> Estimate:
    """Estimate `recover`, in float32.

    Args:
        model, teacher, settings: As for `recover`.
        images: Training images, which are held as bytes.
        validation_images: Images of each look at the validation split.
        checkpointing, trial: As for `calibration_estimate`.

    Returns:
        The estimate.
    """
    recomputes = is_checkpointing(model) if checkpointing is None else checkpointing
    validates = bool(settings.validate_every and validation_images)
    looks = 1 + settings.steps // settings.validate_every if validates else 0
    steps, checks = settings.steps * settings.batch_size, looks * validation_images
    trained = sum(
        p.numel() * p.element_size() for name, p in model.named_parameters() if not name.startswith("prompt_encoder.")
    )
    # AdamW's two moments, the gradients, and the best weights so far
    optimiser = (4 if validates else 3) * trained
    work = peak_bytes(_Steps(settings, validates, recomputes), model, teacher) - optimiser
    looking = held_masks(model, validation_images) if validates else 0
    looking += peak_bytes(PredictionStep(min(BATCH_SIZE, validation_images)), model) if validates else 0
    seconds = None
    if trial:
        own = seconds_per_image(model)
        seconds = (steps * (4 if recomputes else 3) + checks) * own + steps * seconds_per_image(teacher)
    return Estimate(
        work="recovery",
        passes=steps + checks,
        batch_size=settings.batch_size,
        fixed={
            "optimiser": optimiser,
            "images": _images(model, images, validation_images if validates else 0, optimiser + work),
            "validation": max(0, looking - work),
        },
        per_image={"work": shared(work, settings.batch_size)},
        # a state holds weights, moments and best weights
        disk_bytes=4 * trained,
        seconds=seconds,
        device=str(next(model.parameters()).device),
        remedies=(*remedies(model, recomputes), *(["validate_every=0"] if looking > work else [])),
    )


def _images(model: nn.Module, images: int, validation_images: int, later: int) -> int:
    """Bytes of the images that are held; each kind twice for a moment before `later` bytes of other things are."""
    if on_device(model).type != "cpu":
        return 0
    pool, looked_at = images * (_RGB + 1) * pool_size(model) ** 2, held_images(model, validation_images)
    return pool + looked_at + max(0, pool - looked_at - later, looked_at - later)
