"""One piece of calibration: some samples of one data set through one model, kept in files that survive a kill."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor, nn

from .._support.errors import DataError, StatisticsError
from .._support.records import content_hash
from ..data.samples import SampleSet
from ..models.families import geometry_of
from ..models.protocol import batch_of
from .collector import get_collector, is_own, version_of
from .storage import FilePart, Header, write_part
from .sums import Accumulator


def read_batch(samples: SampleSet, span: range, model: nn.Module) -> tuple[Tensor, Tensor, Tensor, list[str]]:
    """Read the samples at some positions in the size and on the device of the model.

    Images (B, 3, S, S), boxes (B, 4), masks (B, 1, S, S) of 0 and 1, and names for errors.
    """
    device, frame = next(model.parameters()).device, geometry_of(model).frame
    read = [samples[index] for index in span]
    resized = [frame.mask(sample.mask) for sample in read]
    if empty := [sample.name for sample, mask in zip(read, resized, strict=True) if not mask.any()]:
        raise DataError(
            f"{samples.name}/{empty[0]} has an empty mask at {frame.size} px: calibration needs an object in every "
            "image, so leave this one out"
        )
    images, boxes = batch_of([(sample.image, sample.box) for sample in read], frame, device)
    masks = torch.stack([torch.from_numpy(mask) for mask in resized])
    return images, boxes, masks[:, None].float().to(device), [f"{samples.name}/{sample.name}" for sample in read]


@dataclass(frozen=True)
class Job:
    """Samples to sum, those at `span` of a data set, and where the sums go: a folder in `cache`, which all jobs share.

    The header's kind is left empty; its `reference_hash`, and the reference, are for collectors that read one.
    """

    header: Header
    model: nn.Module
    samples: SampleSet
    span: range
    collectors: Sequence[str]
    cache: Path
    reference: nn.Module | None = None

    @cached_property
    def folder(self) -> Path:
        """Named by everything that the numbers of all collectors depend on."""
        fields = {name: value for name, value in self.header.values().items() if name != "reference_hash"}
        return self.cache / f"{self.header.role}-{content_hash(fields)[:24]}"

    def header_of(self, collector: str) -> Header:
        """What the file of a collector says; some sums depend on the reference as well, the others serve any."""
        read = self.header.reference_hash if get_collector(collector).reads_reference else ""
        return replace(self.header, kind=collector, reference_hash=read)

    def path(self, collector: str) -> Path:
        """Where the finished sums of a collector are kept."""
        other = self.header_of(collector).reference_hash[:24]
        version = version_of(collector)[:12]
        return self.folder / f"{'-'.join(filter(None, (collector, version, other)))}.safetensors"

    def accumulator(self) -> Accumulator:
        """Make empty sums of what is missing."""
        header = self.header
        return Accumulator(
            self.model, self.missing, header.losses, header.band_radius_px, header.mixed_precision, self.reference
        )

    @cached_property
    def missing(self) -> list[str]:
        """Collectors whose sums are not stored yet, as found at the first look."""
        return [name for name in self.collectors if not self.path(name).exists()]

    @cached_property
    def partial_path(self) -> Path:
        """Where the sums of an unfinished run are kept."""
        return self.folder / f"partial-{'-'.join(self.path(name).stem for name in self.missing)}.safetensors"

    @property
    def partial_header(self) -> Header:
        """What the file of an unfinished run says."""
        read = max(self.header_of(name).reference_hash for name in self.missing)
        return replace(self.header, kind="partial", reference_hash=read)

    @cached_property
    def partial(self) -> FilePart | None:
        """What an interrupted run left, if anything."""
        if not self.missing or not self.partial_path.exists():
            return None
        try:
            part = FilePart(self.partial_path)
        except StatisticsError:
            if self.partial_path.exists():
                raise
            # whoever was at the same has finished, and taken it away
            return None
        if part.header != self.partial_header or not 0 < part.progress <= len(self.span):
            raise StatisticsError(f"{part.path}: belongs to another calibration: remove it and calibrate again")
        return part

    @property
    def done(self) -> int:
        """Samples that need not run again."""
        if not self.missing:
            return len(self.span)
        return self.partial.progress if self.partial else 0

    def batches(self, batch_size: int) -> list[range]:
        """Positions that remain, in batches."""
        rest = self.span[self.done :]
        return [rest[start : start + batch_size] for start in range(0, len(rest), batch_size)]

    def parts(self) -> list[FilePart]:
        """Open the finished files."""
        parts = [FilePart(self.path(name)) for name in self.collectors]
        for name, part in zip(self.collectors, parts, strict=True):
            if part.header != self.header_of(name) or part.progress >= 0:
                raise StatisticsError(f"{part.path}: belongs to another calibration: remove it and calibrate again")
        return parts


class Runner:
    """Runs a job that misses something, batch by batch, from where it stopped."""

    def __init__(self, job: Job, save_every_s: float) -> None:
        self._job, self._save_every_s, self._saved = job, save_every_s, time.monotonic()
        self._sums = job.accumulator()
        if job.partial:
            for key, value in self._flat().items():
                value.copy_(job.partial.tensor(key))
        self._sums.count = job.done

    def _flat(self) -> dict[str, Tensor]:
        return {f"{name}:{key}": value for name, sums in self._sums.sums.items() for key, value in sums.items()}

    def add(self, batch: range) -> None:
        """Sum a batch; write the state now and then, and the result at the end."""
        self._sums.add(*read_batch(self._job.samples, batch, self._job.model))
        if self._sums.count == len(self._job.span):
            self._finish()
        elif time.monotonic() - self._saved >= self._save_every_s:
            write_part(self._job.partial_path, self._job.partial_header, self._flat(), progress=self._sums.count)
            self._saved = time.monotonic()

    def _finish(self) -> None:
        for name, sums in self._sums.sums.items():
            for key, value in sums.items():
                if not bool(torch.isfinite(value).all()):
                    raise _not_finite(name, key, self._job.header.dataset)
        for name, sums in self._sums.sums.items():
            write_part(self._job.path(name), self._job.header_of(name), sums)
        self._job.partial_path.unlink(missing_ok=True)


def _not_finite(collector: str, key: str, dataset: str) -> StatisticsError:
    if is_own(collector):
        return StatisticsError(
            f"collector {collector!r}: the sum {key} over {dataset} is NaN or infinity: have contribute yield smaller "
            "numbers, and look at the model's own outputs on these images"
        )
    return StatisticsError(
        f"{collector}:{key} of {dataset} overflows: the model's gradients are too large to square; "
        "look at the weights, and evaluate the model on these images"
    )
