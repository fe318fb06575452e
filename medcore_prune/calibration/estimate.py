"""What a calibration will take: a batch of it is run without numbers, once for each model that it runs."""

import math
import warnings
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from torch import Tensor, nn

from .._support.errors import MedcorePruneError
from ..evaluation.estimates import Estimate, read_ahead, remedies, seconds_per_image, shared
from ..evaluation.memory import peak_bytes
from ..models.calls.call import on_models
from ..models.protocol import blank_batch
from ..models.switches import is_checkpointing, set_checkpointing
from .collector import (
    LOSSES,
    Need,
    check_losses,
    faults_named,
    get_collector,
    is_own,
    layout_of,
    stored_shapes,
    wanted_needs,
)
from .job import CELL
from .sums import Accumulator


@dataclass(frozen=True)
class _Step:
    """Empty sums, and one batch added to them, with blocks recomputed or not."""

    collectors: tuple[str, ...]
    classes: tuple[type, ...]
    losses: tuple[str, ...]
    batch_size: int
    recomputes: bool

    def __call__(self, model: nn.Module, reference: nn.Module | None = None) -> None:
        set_checkpointing(model, self.recomputes)
        sums = Accumulator(model, self.collectors, self.losses, reference=reference)
        sums.add(*_as_read(*blank_batch(model, self.batch_size)))


def _as_read(images: Tensor, boxes: Tensor, masks: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """A batch with its masks as calibration reads them, one byte a pixel."""
    return images, boxes, masks.bool()


@on_models("model", "reference")
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

    A collector of a user's own is run like the others; one that reads numbers in Python, which are not there, counts as
    the Fisher does, and a warning says so.

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
    kinds = wanted_needs(needs, reference is not None)
    recomputes = is_checkpointing(model) if checkpointing is None else checkpointing
    sizes = {need: _bytes(model, need, losses) for need in kinds}
    runs = []
    for role, run in (("adapted", model), ("reference", reference or model)):
        if summed := [need for need in kinds if need.summed and need.role == role]:
            names = sorted(need.kind for need in summed)
            peak = _peak(run, reference, names, losses, batch_size, recomputes)
            runs.append((peak, sum(sizes[need] for need in summed)))
    peak, sums = max(runs, default=(0, 0))
    passes = len(runs) * datasets * samples
    # kept on the CPU
    added = samples > CELL and next(model.parameters()).device.type == "cpu"
    forwards = 1 + len(losses) * (3 if recomputes else 2)
    return Estimate(
        work="calibration",
        passes=passes,
        batch_size=batch_size,
        fixed={"sums": sums} | ({"sums of whole cells": sums} if added else {}),
        per_image={"work": shared(peak - sums, batch_size), "read ahead": read_ahead(model)},
        disk_bytes=bytes_on_disk(model, kinds, losses, datasets),
        seconds=passes * forwards * seconds_per_image(model) if trial else None,
        device=str(next(model.parameters()).device),
        remedies=remedies(model, recomputes),
    )


def bytes_on_disk(model: nn.Module, needs: Collection[Need], losses: Sequence[str] = LOSSES, datasets: int = 1) -> int:
    """Bytes of the files of a calibration; sums have one a data set."""
    return sum(_bytes(model, need, losses) * (datasets if need.summed else 1) for need in needs)


def _bytes(model: nn.Module, need: Need, losses: Sequence[str]) -> int:
    return max(4, next(model.parameters()).element_size()) * _numbers(model, need.kind, losses)


def _numbers(model: nn.Module, kind: str, losses: Sequence[str]) -> int:
    layout = layout_of(kind)
    if layout is None:
        return 0
    with faults_named(kind):
        return sum(math.prod(shape) for shape in stored_shapes(layout, losses, model).values())


def _peak(
    model: nn.Module,
    reference: nn.Module | None,
    names: Sequence[str],
    losses: Sequence[str],
    batch_size: int,
    recomputes: bool,
) -> int:
    classes = tuple(get_collector(name) for name in names)
    reads = [reference] if reference is not None and any(each.reads_reference for each in classes) else []
    step = _Step(tuple(names), classes, tuple(losses), batch_size, recomputes)
    own = list(filter(is_own, names))
    try:
        return peak_bytes(step, model, *reads)
    except MedcorePruneError as error:
        if not own:
            raise
        warnings.warn(f"the memory of {', '.join(own)} is taken for the Fisher's: {error}", stacklevel=3)
    others = sorted({"fisher", *names} - set(own))
    held = sum(_numbers(model, name, losses) for name in own) * max(4, next(model.parameters()).element_size())
    return held + _peak(model, reference, others, losses, batch_size, recomputes)
