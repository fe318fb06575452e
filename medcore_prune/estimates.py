"""What long work will take, said before it starts: memory, disk and time, from a model's sizes and a short trial.

    estimate = mp.calibration_estimate(model, reference, samples=128, datasets=3)
    print(estimate)
    mp.require_memory(estimate)

Memory is counted in bytes of tensors beyond the weights that are loaded already. It is meant to err on the large side.
"""

import math
import time
from collections.abc import Callable, Collection, Sequence

import torch
from torch import nn

from .activations import Activations, activations_of
from .adaptation import pool_size
from .collector import LOSSES, check_losses, stored_shapes
from .collector_registry import faults_named, layout_of
from .cost import count
from .estimate_record import Estimate
from .models.families import blocks_of, family_of, geometry_of
from .models.protocol import decode
from .models.switches import is_checkpointing
from .needs import Need
from .recovery_settings import DEFAULT_RECOVERY, RecoverySettings

_RGB = 3


def calibration_estimate(
    model: nn.Module,
    reference: nn.Module | None = None,
    *,
    samples: int = 128,
    datasets: int = 1,
    batch_size: int = 8,
    needs: Collection[str] | None = None,
    losses: Sequence[str] = LOSSES,
    checkpointing: bool | None = None,
    trial: bool = True,
) -> Estimate:
    """Estimate `calibrate`.

    Args:
        model, reference, samples, batch_size, needs, losses: As for `calibrate`.
        datasets: Data sets, each of which gives `samples` images.
        checkpointing: Whether blocks are recomputed; by default as the model is set.
        trial: Time a few layers for the seconds, a few seconds at most.

    Returns:
        The estimate. Files that exist already are not taken off.

    Raises:
        StatisticsError: Other losses than `calibrate` takes.
    """
    check_losses(losses)
    kinds = _kinds(needs, reference)
    recomputes = is_checkpointing(model) if checkpointing is None else checkpointing
    element = max(4, next(model.parameters()).element_size())
    sizes = {need: element * _numbers(model, need.kind, losses) for need in kinds}
    roles = {need.role for need in kinds if need.summed}
    sums = max((sum(sizes[need] for need in kinds if need.role == role) for role in roles), default=0)
    one = activations_of(model)
    several = len(losses) - 1
    passes = len(roles) * datasets * samples
    forwards = 1 + len(losses) * (3 if recomputes else 2)
    return Estimate(
        work="calibration",
        passes=passes,
        batch_size=batch_size,
        fixed={"sums": sums},
        per_image={
            "activations": _alive(one, recomputes, kept_on=bool(several)),
            "layer gradients": several * one.layer_gradients,
            "work": max(one.attention_work, (len(losses) + 1) * one.weight_gradient),
        },
        disk_bytes=sum(size * (datasets if need.summed else 1) for need, size in sizes.items()),
        seconds=passes * forwards * seconds_per_image(model) if trial else None,
        device=str(next(model.parameters()).device),
        remedies=_remedies(model, recomputes),
    )


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
    trained = sum(
        p.numel() * p.element_size() for name, p in model.named_parameters() if not name.startswith("prompt_encoder.")
    )
    looks = 1 + settings.steps // settings.validate_every if settings.validate_every and validation_images else 0
    one, taught = activations_of(model), activations_of(teacher)
    steps, checks = settings.steps * settings.batch_size, looks * validation_images
    seconds = None
    if trial:
        own = seconds_per_image(model)
        seconds = (steps * (4 if recomputes else 3) + checks) * own + steps * seconds_per_image(teacher)
    return Estimate(
        work="recovery",
        passes=steps + checks,
        batch_size=settings.batch_size,
        # AdamW's two moments, the gradients, and the best weights so far
        fixed={"optimiser": 4 * trained, "images": images * (_RGB + 1) * pool_size(model) ** 2},
        per_image={
            "activations": _alive(one, recomputes, kept_on=False),
            "work": max(one.attention_work, taught.forward_work),
        },
        # a state holds weights, moments and best weights
        disk_bytes=4 * trained,
        seconds=seconds,
        device=str(next(model.parameters()).device),
        remedies=_remedies(model, recomputes),
    )


def evaluation_estimate(model: nn.Module, images: int, *, batch_size: int = 16, trial: bool = True) -> Estimate:
    """Estimate `evaluate`: forward passes, without what comparing the masks takes.

    Args:
        model: As for `evaluate`.
        images: How many.
        batch_size: Images at a time.
        trial: As for `calibration_estimate`.

    Returns:
        The estimate.
    """
    one = activations_of(model)
    return Estimate(
        work="evaluation",
        passes=images,
        batch_size=batch_size,
        fixed={},
        per_image={"work": one.forward_work},
        disk_bytes=0,
        seconds=images * seconds_per_image(model) if trial else None,
        device=str(next(model.parameters()).device),
        remedies=_remedies(model, None),
    )


def _kinds(needs: Collection[str] | None, reference: nn.Module | None) -> list[Need]:
    if needs is not None:
        return [Need(need) for need in needs]
    return [Need.FISHER, *([Need.REFERENCE_FISHER, Need.REFERENCE_WEIGHTS] if reference is not None else [])]


def _numbers(model: nn.Module, kind: str, losses: Sequence[str]) -> int:
    layout = layout_of(kind)
    if layout is None:
        return 0
    with faults_named(kind):
        return sum(math.prod(shape) for shape in stored_shapes(layout, losses, model).values())


def _alive(one: Activations, recomputes: bool, kept_on: bool) -> int:
    """Bytes kept at the worst moment of a backward pass; `kept_on` where the graph is run a second time."""
    if recomputes and not kept_on:
        # what surrounds the blocks is gone by the time they are recomputed
        return one.entering + max(one.around, one.largest_block)
    return one.saved(recomputes)


def _remedies(model: nn.Module, recomputes: bool | None) -> tuple[str, ...]:
    found = []
    if recomputes is False:
        found.append("checkpointing (blocks are recomputed)")
    fused = getattr(family_of(model), "attentions", {}).get("sdpa")
    if fused is not None and not all(isinstance(block.attention, fused) for block in blocks_of(model)):
        found.append('attention="sdpa"')
    return (*found, "another device")


@torch.no_grad()
def seconds_per_image(model: nn.Module) -> float:
    """Estimate the time of a forward pass over one image, from one block of each kind and the mask decoder.

    The other blocks are scaled by their FLOPs (`cost.count`, everything that runs).

    Args:
        model: A `Sam`, not on the meta device.

    Returns:
        Seconds.
    """
    geometry, device = geometry_of(model), next(model.parameters()).device
    dtype, side = next(model.parameters()).dtype, geometry.tokens_side
    tokens = torch.randn((1, side, side, geometry.embed_dim), device=device, dtype=dtype)
    embedding = torch.randn((1, geometry.out_channels, side, side), device=device, dtype=dtype)
    box = torch.tensor([[0.25, 0.25, 0.5, 0.5]], device=device) * geometry.image_size
    cost = count(model, convention="full")
    rates: dict[int, float] = {}
    for block, size in zip(blocks_of(model), cost.per_block, strict=True):
        if block.window not in rates:
            rates[block.window] = _seconds(model.get_submodule(block.name), tokens) / size.flops
    inside = sum(size.flops * rates[size.window] for size in cost.per_block)
    stem = (cost.flops - sum(size.flops for size in cost.per_block)) * sum(rates.values()) / len(rates)
    return inside + stem + _seconds(decode, model, embedding, box)


def _seconds(run: Callable[..., object], *args: object) -> float:
    """Time a call, once more where the first was quick enough to be mostly warming up."""
    elapsed = 0.0
    for _ in range(2):
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        start = time.perf_counter()
        run(*args)
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        elapsed = time.perf_counter() - start
        if elapsed > 0.5:
            break
    return elapsed
