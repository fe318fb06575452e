"""Exact interventions (Eq. 5, 6): run the network with one unit set to zero, or back to the reference.

I_zero(g)  = R(theta_M with g set to 0)       - R(theta_M)
I_reset(g) = R(theta_M with g set to theta_S) - R(theta_M)
"""

import copy
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from .._support.errors import AlignmentError, DataError, SurgeryError
from .._support.progress import track
from ..data.frame import Frame
from ..data.masks import band_radius, boundary_band
from ..data.samples import SampleSet
from ..defaults import DEFAULTS
from ..models.calls.call import on_models
from ..models.groups import StructuredGroup
from ..models.losses import boundary_loss
from ..models.protocol import batch_of, input_logits, low_res_logits


@dataclass(frozen=True)
class RiskData:
    """A data set as the loss sees it: images (N, 3, S, S), boxes (N, 4) in pixels, masks (N, 1, S, S) of 0 and 1."""

    images: Tensor
    boxes: Tensor
    masks: Tensor

    @classmethod
    def of(cls, samples: SampleSet, frame: Frame) -> "RiskData":
        """Prepare a data set for a model into whose input images are brought as `frame` says."""
        if not len(samples):
            raise DataError(f"data set {samples.name!r} holds no image to measure a risk on")
        loaded = list(samples)
        images, boxes = batch_of([(sample.image, sample.box) for sample in loaded], frame)
        masks = torch.stack([torch.from_numpy(frame.mask(sample.mask)) for sample in loaded])
        return cls(images, boxes, masks[:, None].float())


@torch.no_grad()
def risk(model: nn.Module, data: RiskData, lambda_b: float = DEFAULTS.lambda_b, batch_size: int = 8) -> float:
    """Empirical risk R: the mean boundary-aware loss (Eq. 9) over a data set."""
    first = next(model.parameters())
    radius = band_radius(data.images.shape[-1], DEFAULTS.band_radius_px)
    total = 0.0
    batches = zip(*(part.split(batch_size) for part in (data.images, data.boxes, data.masks)), strict=True)
    for images, boxes, masks in batches:
        images, boxes, masks = images.to(first), boxes.to(first), masks.to(first.device)
        low_res = low_res_logits(model, images, boxes)
        logits = input_logits(low_res.to(torch.promote_types(low_res.dtype, torch.float32)), images.shape[-1])
        total += float(boundary_loss(logits, masks, boundary_band(masks, radius), lambda_b).double().sum())
    return total / len(data.images)


@contextmanager
def unit_replaced(group: StructuredGroup, unit: int, source: StructuredGroup | None) -> Iterator[None]:
    """Set one unit's parameters, in place, to those of the same group `source` (zero for None) while the block runs."""
    views = list(_unit_views(group, unit))
    replacements: Sequence[Tensor | None] = [None] * len(views)
    if source is not None:
        replacements = [values[index] for values, index in _unit_views(source, unit)]
    kept = [values[index].clone() for values, index in views]
    try:
        for (values, index), new in zip(views, replacements, strict=True):
            values[index] = 0 if new is None else new.to(values)
        yield
    finally:
        for (values, index), own in zip(views, kept, strict=True):
            values[index] = own


def _unit_views(group: StructuredGroup, unit: int) -> Iterator[tuple[Tensor, tuple[Tensor | slice, ...]]]:
    for part in group.inputs:
        yield part.layer.weight.detach(), (part.rows[unit],)
        if part.layer.bias is not None:
            yield part.layer.bias.detach(), (part.rows[unit],)
    yield group.layer_out.weight.detach(), (slice(None), group.out_cols[unit])


def _in_model(group: StructuredGroup, model: nn.Module, what: str) -> StructuredGroup:
    """The same group in another model with the same layer names and shapes."""
    try:
        found = group.in_model(model)
    except SurgeryError as error:
        raise AlignmentError(f"the {what} is not like the model: {error}") from None
    for (name, own), (_, layer) in zip(group.layers, found.layers, strict=True):
        if layer.weight.shape != own.weight.shape:
            raise AlignmentError(f"{name} of the {what} does not have the shape {tuple(own.weight.shape)} of the model")
    return found


@on_models("model", "reference")
def exact_interventions(
    model: nn.Module,
    groups: Sequence[StructuredGroup],
    data: Mapping[str, RiskData],
    *,
    reference: nn.Module | None = None,
    units: Sequence[Sequence[int]] | None = None,
    lambda_b: float = DEFAULTS.lambda_b,
    batch_size: int = 8,
    progress: bool = True,
) -> dict[str, list[Tensor]]:
    """Measure what each unit's removal, or its reset to a `reference`, does to the risk of each data set.

    A copy is run; the model itself is not touched. Gives each data set one float64 tensor a group, in the order of
    `units`, the indices to measure in each group (None for all).
    """
    double = copy.deepcopy(model).eval()
    chosen = [range(group.n_units) for group in groups] if units is None else list(units)
    own = [_in_model(group, double, "model") for group in groups]
    sources = [None if reference is None else _in_model(group, reference, "reference") for group in groups]
    before = {name: risk(double, part, lambda_b, batch_size) for name, part in data.items()}
    results = {name: [torch.zeros(len(of_group), dtype=torch.float64) for of_group in chosen] for name in data}
    jobs = [(g, place, unit) for g, of_group in enumerate(chosen) for place, unit in enumerate(of_group)]
    label = "zero interventions" if reference is None else "reset interventions"
    for g, place, unit in track(jobs, label, total=len(jobs), show=progress):
        with unit_replaced(own[g], unit, sources[g]):
            for name, part in data.items():
                results[name][g][place] = risk(double, part, lambda_b, batch_size) - before[name]
    return results
