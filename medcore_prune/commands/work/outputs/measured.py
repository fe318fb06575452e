"""What models are measured by: their masks on the same images, after the floors, and their time in turns."""

from collections.abc import Collection, Mapping
from typing import Any

import pandas as pd
import torch
from torch import nn

from ....data.samples import SampleSet
from ....evaluation.evaluate import predict, score
from ....evaluation.floors import FLOORS, floor_masks
from ....evaluation.images import KEPT_BYTES, EvalSize, EvaluationSet
from ....evaluation.latency import compare_latency
from ....models.families import geometry_of
from ....models.tiny_vit.stems import kept_stems

Tables = dict[str, pd.DataFrame]

_ROUNDS, _WARMUP = 5, 1


def evaluate_all(
    models: Mapping[str, Any],
    sets: Mapping[str, SampleSet],
    eval_size: EvalSize,
    tolerance_px: float,
    batch_size: Mapping[str, int],
    notes: list[str] | None = None,
    without: Collection[str] = (),
) -> Tables:
    """Score floors and models on the same images: a table with a row an image, the floors first, as `floor: box`.

    What is to be said of images that are compared at their own size is added to `notes`. Models that are named in
    `without` are not run, and have no table; images lie as they would for them.
    """
    frames = {name: geometry_of(model).frame for name, model in models.items()}
    run = {name: model for name, model in models.items() if name not in without}
    found: dict[str, list[pd.DataFrame]] = {name: [] for name in (*(f"floor: {floor}" for floor in FLOORS), *run)}
    with kept_stems():
        for samples in sets.values():
            kept = KEPT_BYTES // len(set(frames.values())) if len(run) > 1 else 0
            # the estimate of the command reckons with no more on a device either
            ready = {frame: EvaluationSet(samples, frame, eval_size, kept, kept) for frame in set(frames.values())}
            for name, model in run.items():
                images = ready[frames[name]]
                masks = predict(model, images, batch_size=batch_size[name], progress=True)
                found[name].append(score(masks, images, tolerance_px=tolerance_px))
            # behind the models, which have read boxes and true masks
            some = next(iter(ready.values()))
            if notes is not None and some.note:
                notes.append(some.note)
            for floor in FLOORS:
                found[f"floor: {floor}"].append(score(floor_masks(floor, some), some, tolerance_px=tolerance_px))
    return {name: pd.concat(parts, ignore_index=True) for name, parts in found.items()}


def milliseconds(models: Mapping[str, nn.Module]) -> dict[str, float]:
    """Measure what each model's encoder takes for one image, here and now, in turns."""
    found = compare_latency(models, repeats=_ROUNDS, warmup=_WARMUP)
    return {name: each.median_ms for name, each in found.items()}


def machine(model: nn.Module) -> str:
    """Say where a model was timed."""
    device = next(model.parameters()).device
    threads = torch.get_num_threads()
    return str(device) if device.type != "cpu" else f"cpu, {threads} thread{'s' * (threads != 1)}"
