"""Exact interventions (Eq. 5, 6): run the network with one unit set to zero, or back to the reference.

I_zero(g)  = R(theta_M with g set to 0)       - R(theta_M)
I_reset(g) = R(theta_M with g set to theta_S) - R(theta_M)
"""

import copy
from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import groupby

import torch
from torch import Tensor, nn

from .._support.errors import AlignmentError, DataError, SurgeryError
from .._support.progress import track
from ..data.frame import Frame
from ..data.masks import band_radius, boundary_band
from ..data.reading import by_image, read_images
from ..data.samples import SampleSet
from ..defaults import DEFAULTS
from ..models.calls.call import on_models
from ..models.groups import StructuredGroup
from ..models.losses import boundary_loss
from ..models.protocol import input_logits, low_res_logits
from ..models.tiny_vit.stems import kept_stems
from .resumed import Resumed


@dataclass(frozen=True)
class RiskData:
    """A data set as the loss sees it.

    Attributes:
        images: (N, 3, S, S).
        boxes: (B, 4) in input pixels, image by image.
        masks: (B, 1, S, S) of 0 and 1.
        owner: The image of each box, its place among the N, ascending; None for one box an image.
    """

    images: Tensor
    boxes: Tensor
    masks: Tensor
    owner: tuple[int, ...] | None = None

    @classmethod
    def of(cls, samples: SampleSet, frame: Frame) -> "RiskData":
        """Prepare a data set for a model into whose input images are brought as `frame` says."""
        if not len(samples):
            raise DataError(f"data set {samples.name!r} holds no image to measure a risk on")
        read = read_images(samples, by_image(samples), frame)
        masks = torch.stack([torch.from_numpy(frame.mask(sample.mask)) for sample in read.samples])
        return cls(read.images, read.boxes, masks[:, None].float(), read.owner)

    def batches(self, batch_size: int) -> Iterator["RiskData"]:
        """Cut it into so many images at a time, each with all its boxes."""
        owner = list(range(len(self.images)) if self.owner is None else self.owner)
        for start in range(0, len(self.images), batch_size):
            stop = min(start + batch_size, len(self.images))
            rows = slice(bisect_left(owner, start), bisect_left(owner, stop))
            own = tuple(place - start for place in owner[rows])
            yield RiskData(self.images[start:stop], self.boxes[rows], self.masks[rows], own)


def _batches(model: nn.Module, data: RiskData, batch_size: int) -> Iterator[RiskData]:
    """Some images at a time, where the model is."""
    first = next(model.parameters())
    for part in data.batches(batch_size):
        yield RiskData(part.images.to(first), part.boxes.to(first), part.masks.to(first.device), part.owner)


def _loss_of(masks: Tensor, lambda_b: float) -> Callable[[Tensor], Tensor]:
    """Return the sum over a batch of the boundary-aware loss (Eq. 9) of low-resolution logits; it stays on its device.

    The band around the `masks` is drawn once, however often the network runs on the batch.
    """
    size = masks.shape[-1]
    band = boundary_band(masks, band_radius(size, DEFAULTS.band_radius_px))

    def loss(low_res: Tensor) -> Tensor:
        logits = input_logits(low_res.to(torch.promote_types(low_res.dtype, torch.float32)), size)
        return boundary_loss(logits, masks, band, lambda_b).double().sum()

    return loss


@torch.no_grad()
def risk(model: nn.Module, data: RiskData, lambda_b: float = DEFAULTS.lambda_b, batch_size: int = 8) -> float:
    """Empirical risk R: the mean boundary-aware loss (Eq. 9) over a data set."""
    batches = _batches(model, data, batch_size)
    sums = [_loss_of(b.masks, lambda_b)(low_res_logits(model, b.images, b.boxes, b.owner)) for b in batches]
    return sum(torch.stack(sums).tolist()) / len(data.boxes)


Parts = Sequence[tuple[Tensor, Tensor]]
"""Parameters that the units of a group own rows of, and which, (n_units, k), where the parameters are."""


def parts_of(group: StructuredGroup) -> Parts:
    """Find what the units of a group own; of the layer that they speak through columns, as rows of a transposed view.

    Indices are brought to the parameters once: from elsewhere they would make the device wait at every unit.
    """
    found = [(part.layer.weight.detach(), part.rows) for part in group.inputs]
    found += [(part.layer.bias.detach(), part.rows) for part in group.inputs if part.layer.bias is not None]
    found += [(group.layer_out.weight.detach().T, group.out_cols)]
    return [(values, rows.to(values.device)) for values, rows in found]


@contextmanager
def unit_replaced(parts: Parts, unit: int, source: Parts | None) -> Iterator[None]:
    """Set one unit's parameters, in place, to those of the same group `source` (zero for None) while the block runs."""
    # a choice of rows is a copy
    kept = [values[rows[unit]] for values, rows in parts]
    if source is None:
        replacements = [torch.zeros_like(own) for own in kept]
    else:
        replacements = [values[rows[unit]].to(own) for (values, rows), own in zip(source, kept, strict=True)]
    try:
        for (values, rows), new in zip(parts, replacements, strict=True):
            values[rows[unit]] = new
        yield
    finally:
        for (values, rows), own in zip(parts, kept, strict=True):
            values[rows[unit]] = own


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
@torch.no_grad()
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

    For each unit the network runs from the unit's block on. A copy is run; the model itself is not touched. Gives each
    data set one float64 tensor a group, in the order of `units`, the indices to measure in each group (None for all).
    """
    double = copy.deepcopy(model).eval()
    chosen = [range(group.n_units) for group in groups] if units is None else list(units)
    own = [_in_model(group, double, "model") for group in groups]
    sources = [None if reference is None else _in_model(group, reference, "reference") for group in groups]
    jobs = [
        _Job(group.block, parts_of(group), None if source is None else parts_of(source), of_group)
        for group, source, of_group in zip(own, sources, chosen, strict=True)
    ]
    results = {name: [torch.zeros(len(of_group), dtype=torch.float64) for of_group in chosen] for name in data}
    label = "zero interventions" if reference is None else "reset interventions"
    batches = sum(-(-len(part.images) // batch_size) for part in data.values())
    work = _measure(double, jobs, data, results, lambda_b, batch_size)
    with kept_stems():
        for _ in track(work, label, total=batches * sum(map(len, chosen)), show=progress):
            pass
    return results


@dataclass(frozen=True)
class _Job:
    """Units of a group in a block to replace by those of the same group `source`, or by zero."""

    block: int
    parts: Parts
    source: Parts | None
    units: Sequence[int]


def _measure(
    model: nn.Module,
    jobs: Sequence[_Job],
    data: Mapping[str, RiskData],
    results: Mapping[str, Sequence[Tensor]],
    lambda_b: float,
    batch_size: int,
) -> Iterator[None]:
    """Fill in the results, batch by batch and in each from the first block on; yields after each run.

    Losses are added up where the model is and read once a data set: the device does not wait for them unit by unit.
    """
    device = next(model.parameters()).device
    # a batch is all that is kept, whatever the number of images: what enters a block changes from batch to batch
    in_order = sorted(range(len(jobs)), key=lambda place: jobs[place].block)
    for name, part in data.items():
        before = torch.zeros((), dtype=torch.float64, device=device)
        sums = [torch.zeros_like(costs, device=device) for costs in results[name]]
        for batch in _batches(model, part, batch_size):
            resumed = Resumed(model, partial(low_res_logits, model, batch.images, batch.boxes, batch.owner))
            loss = _loss_of(batch.masks, lambda_b)
            before += loss(resumed.whole)
            for block, places in groupby(in_order, key=lambda place: jobs[place].block):
                todo = [(place, n, unit) for place in places for n, unit in enumerate(jobs[place].units)]
                if todo:
                    resumed.start_at(block)
                for place, n, unit in todo:
                    with unit_replaced(jobs[place].parts, unit, jobs[place].source):
                        sums[place][n] += loss(resumed.run())
                    yield
        for costs, found in zip(results[name], sums, strict=True):
            costs.copy_(found.div_(len(part.boxes)).sub_(before / len(part.boxes)))
