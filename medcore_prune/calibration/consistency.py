"""What belongs together: parts of one model and one setting, samples that are counted once, a model that they fit."""

from collections.abc import Iterable, Mapping, Sequence

import torch
from torch import nn

from .._support.errors import StatisticsError
from .collector import layout_of
from .storage import Header, Part


def check_together(grouped: Mapping[tuple[str, str, str], Sequence[Part]]) -> None:
    """Refuse parts, by kind, role and data set, of different models, settings or samples, or of samples seen twice."""
    headers = [part.header for parts in grouped.values() for part in parts]
    _check_models(headers)
    if len({(h.losses, h.band_radius_px, h.precision) for h in headers if h.kind != "weights"}) > 1:
        raise StatisticsError("the statistics were collected with different losses or settings: merge like with like")
    by_dataset: dict[str, dict[tuple[str, str], list[tuple[str, str]]]] = {}
    for (kind, role, dataset), parts in grouped.items():
        if kind == "weights":
            continue
        samples = [sample for part in parts for sample in part.header.samples]
        if len(set(samples)) < len(samples):
            twice = next(sample for sample in samples if samples.count(sample) > 1)
            raise StatisticsError(f"sample {twice[0]} of {dataset} is counted twice: merge disjoint samples")
        by_dataset.setdefault(dataset, {})[kind, role] = samples
    for dataset, collected in by_dataset.items():
        if len({tuple(samples) for samples in collected.values()}) > 1:
            raise StatisticsError(
                f"the statistics of {dataset} were not all collected on the same samples: merge whole runs"
            )


def _check_models(headers: Sequence[Header]) -> None:
    hashes = {role: {h.model_hash for h in headers if h.role == role} - {""} for role in ("adapted", "reference")}
    hashes["reference"] |= {h.reference_hash for h in headers} - {""}
    if different := [role for role, known in hashes.items() if len(known) > 1]:
        raise StatisticsError(
            f"the statistics of the {different[0]} model come from different weights: merge like with like"
        )


def check_same_weights(first: Part, second: Part) -> None:
    """Refuse two copies of the reference's weights that differ."""
    hashes = {first.header.model_hash, second.header.model_hash}
    if len(hashes) == 1 and "" not in hashes:
        return
    same = set(first.names) == set(second.names) and all(
        torch.equal(first.tensor(name), second.tensor(name)) for name in first.names
    )
    if not same:
        raise StatisticsError("the statistics come from different reference weights: merge like with like")


def check_disjoint(runs: Iterable[Sequence[Part]]) -> None:
    """Refuse runs, given by their parts, of which two hold the same sample of a data set under two names."""
    seen: dict[tuple[str, str, str, str], tuple[int, str]] = {}
    for run, parts in enumerate(runs):
        for header in (part.header for part in parts):
            for name, content in header.samples:
                place = (header.kind, header.role, header.dataset, content)
                first_run, first_name = seen.setdefault(place, (run, name))
                # those of one name are for `check_together`; statistics that were not calibrated know no content
                if content and first_run != run and first_name != name:
                    raise StatisticsError(
                        f"samples {first_name} and {name} of {header.dataset} are the same image, mask and box, and "
                        "would be counted twice: merge disjoint samples"
                    )


def check_shapes(part: Part, model: nn.Module) -> None:
    """Refuse a part that lacks a tensor that its collector would store of this model, or has it in another shape.

    Statistics of a kind that no loaded collector knows are not looked at.
    """
    layout = layout_of(part.header.kind)
    shapes = layout.shapes(model) if layout else {}
    keys = {key.split("/", 1)[1]: key for key in part.names}
    for name, shape in shapes.items():
        layer_name = name.rpartition(".")[0]
        if name not in keys:
            raise StatisticsError(f"the statistics hold nothing for layer {layer_name}: they belong to another model")
        if part.shape(keys[name]) != shape:
            raise StatisticsError(
                f"{layer_name} has shape {shape}, the statistics {part.shape(keys[name])}: "
                "the model was changed since; calibrate it again"
            )
