"""One piece of calibration: some samples of one data set through one model, kept in files that survive a kill."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import accumulate
from pathlib import Path
from typing import TypeAlias

import torch
from torch import Tensor, nn

from .._support.ahead import ahead
from .._support.devices import pinned_for
from .._support.errors import DataError, StatisticsError
from .._support.records import content_hash
from ..data.reading import by_image, in_batches, read_images
from ..data.samples import SampleSet, Subset
from ..models.families import geometry_of
from .collector import get_collector, version_of
from .storage import FilePart, Header
from .sums import Accumulator

Images = Sequence[Sequence[int]]
"""Some images by the positions of their samples, as `reading.by_image` finds them."""
Sums: TypeAlias = dict[str, dict[str, Tensor]]
"""By collector and key."""
Read: TypeAlias = tuple[Tensor, Tensor, Tensor, list[str], tuple[int, ...]]
"""Images (N, 3, S, S), boxes (B, 4), masks (B, 1, S, S) bool, names for errors, and the image of each of the B."""

CELL = 128
"""Samples that are summed by themselves; such sums are added in order. So many are a calibration of the paper's."""
MOST_CELLS = 64
"""Of more samples cells are larger, since the sums of each travel."""
WHOLE = ":"
"""Begins the keys of whole cells' sums in the file of an unfinished run."""


def read_batch(samples: SampleSet, images: Images, model: nn.Module) -> Read:
    """Read images with all their samples in the size and on the device of the model, for `Accumulator.add`."""
    return _moved(_read(samples, images, model), model)


def read_ahead(steps: Iterable[tuple["Job", Images]]) -> Iterator[tuple["Job", Read]]:
    """Yield each job with its images as `read_batch` reads them, those of the next step being read meanwhile."""
    for job, read in ahead((job, _read(job.samples, images, job.model)) for job, images in steps):
        yield job, _moved(read, job.model)


def cell_of(count: int) -> int:
    """Samples of a cell where there are so many: `CELL`, doubled as often as it takes."""
    size = CELL
    while size * MOST_CELLS < count:
        size *= 2
    return size


def _moved(read: Read, model: nn.Module) -> Read:
    device = next(model.parameters()).device
    images, boxes, masks = (each.to(device, non_blocking=True) for each in read[:3])
    return images, boxes, masks, read[3], read[4]


def _read(samples: SampleSet, images: Images, model: nn.Module) -> Read:
    """Read images on the CPU, in memory that a CUDA device copies from by itself where the model is on one."""
    device, frame = next(model.parameters()).device, geometry_of(model).frame
    read = read_images(samples, images, frame, merge=True)
    resized = [frame.mask(sample.mask) for sample in read.samples]
    if empty := [sample.name for sample, mask in zip(read.samples, resized, strict=True) if not mask.any()]:
        raise DataError(
            f"{samples.name}/{empty[0]} has an empty mask at {frame.size} px: calibration needs an object in every "
            "image, so leave this one out"
        )
    masks = torch.stack([torch.from_numpy(mask) for mask in resized])[:, None]
    inputs, boxes, masks = (pinned_for(each, device) for each in (read.images, read.boxes, masks))
    return inputs, boxes, masks, [f"{samples.name}/{sample.name}" for sample in read.samples], read.owner


@dataclass(frozen=True)
class Job:
    """Samples to sum, those at `span` of a data set, and where the sums go: a folder in `cache`, which all jobs share.

    The header's kind is left empty; its `reference_hash`, and the reference, are for collectors that read one. Samples
    are read `batch_size` at a time. Without `keep_smaller` sums over fewer of them are removed.

    Of many samples, `cells` are summed each by itself and then added, so that other machines may sum them and come to
    the same bits, whatever their number; one that came from elsewhere is a cell `whole`.
    """

    header: Header
    model: nn.Module
    samples: SampleSet
    span: Sequence[int]
    collectors: Sequence[str]
    cache: Path
    reference: nn.Module | None = None
    batch_size: int = 8
    keep_smaller: bool = True
    whole: bool = False

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
            self.model, self.missing, header.losses, header.band_radius_px, header.precision, self.reference
        )

    @cached_property
    def missing(self) -> list[str]:
        """Collectors whose sums are not stored yet, as found at the first look."""
        return [name for name in self.collectors if not self.path(name).exists()]

    @cached_property
    def images(self) -> Images:
        """Positions in `span` image by image, those with as many samples together: the order of the sums."""
        part = Subset(self.samples, tuple(self.span), self.samples.name)
        return sorted(([self.span[n] for n in image] for image in by_image(part)), key=len)

    @cached_property
    def cells(self) -> Sequence[Images]:
        """The images in pieces of `cell_of` samples, the last one what is left; of whole images, so of some more."""
        if self.whole:
            return [self.images]
        size = cell_of(len(self.span))
        cells: list[list[Sequence[int]]] = []
        room = 0
        for image in self.images:
            if room <= 0:
                cells.append([])
                room = size
            cells[-1].append(image)
            room -= len(image)
        return cells

    @cached_property
    def ends(self) -> list[int]:
        """Samples that are done at the end of each cell."""
        return list(accumulate(sum(map(len, cell)) for cell in self.cells))

    @cached_property
    def partial_path(self) -> Path:
        """Where the sums of an unfinished run are kept; its name says in which order they are, if not the set's own."""
        order = [position for image in self.images for position in image]
        words = ["partial", *([] if order == list(self.span) else ["by", "image"])]
        words += ["in", "cells"] if len(self.cells) > 1 else []
        return self.folder / f"{'-'.join([*words, *map(self._stem, self.missing)])}.safetensors"

    def _stem(self, collector: str) -> str:
        return self.path(collector).stem

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
        known = set(accumulate(map(len, self.images)))
        if part.header != self.partial_header or part.progress not in known:
            raise StatisticsError(f"{part.path}: belongs to another calibration: remove it and calibrate again")
        return part

    @cached_property
    def smaller(self) -> "Job | None":
        """The largest job on the first of these samples that is finished for all that is missing.

        Of whole batches of the first cell or of whole cells alone, so that whoever goes on from it comes to the very
        same sums; and only where each image has one sample, for others are summed in another order.
        """
        if not self.missing or any(len(image) > 1 for image in self.images):
            return None
        within = range(self.batch_size, min(CELL, len(self.span)), self.batch_size)
        alike = [end for end in self.ends[:-1] if cell_of(end) == cell_of(len(self.span))]
        return self._smaller(self.missing, [*within, *alike])

    def _smaller(self, collectors: Sequence[str], counts: Sequence[int]) -> "Job | None":
        for count in reversed(counts):
            header = replace(self.header, samples=self.header.samples[:count])
            job = replace(self, header=header, span=self.span[:count], collectors=collectors)
            if not job.missing:
                return job
        return None

    def remove_smaller(self) -> None:
        """Remove the sums over the first of these samples, of each collector the largest, as `keep_smaller` says."""
        if self.keep_smaller:
            return
        for name in self.collectors:
            if (job := self._smaller([name], range(1, len(self.span)))) is not None:
                job.path(name).unlink(missing_ok=True)

    @property
    def done(self) -> int:
        """Samples that need not run again."""
        if not self.missing:
            return len(self.span)
        return max(self.partial.progress if self.partial else 0, len(self.smaller.span) if self.smaller else 0)

    def sums_so_far(self) -> Iterator[tuple[bool, str, str, Tensor]]:
        """Sums over the samples that are done, of what is missing: of whole cells or of a begun one, collector, key and
        value.
        """
        if self.partial and self.partial.progress == self.done:
            for key in self.partial.names:
                name, _, inner = key.removeprefix(WHOLE).partition(":")
                yield key.startswith(WHOLE), name, inner, self.partial.tensor(key)
        elif self.smaller:
            for name, part in zip(self.missing, self.smaller.parts(), strict=True):
                for key in part.names:
                    yield self.done in self.ends, name, key, part.tensor(key)

    @property
    def batches(self) -> list[Images]:
        """Images that remain, in batches, each of one cell and of as many samples an image."""
        left = self.done
        batches: list[Images] = []
        for cell in self.cells:
            before = list(accumulate(map(len, cell), initial=0))
            over = before.index(min(left, before[-1]))
            batches += in_batches(cell[over:], self.batch_size, alike=True)
            left -= before[over]
        return batches

    def parts(self) -> list[FilePart]:
        """Open the finished files."""
        parts = [FilePart(self.path(name)) for name in self.collectors]
        for name, part in zip(self.collectors, parts, strict=True):
            if part.header != self.header_of(name) or part.progress >= 0:
                raise StatisticsError(f"{part.path}: belongs to another calibration: remove it and calibrate again")
        return parts

    def alone(self) -> list["Job"]:
        """Each cell that is not done, as a job without models and what was looked up, to be sent elsewhere."""
        named = dict(zip(self.span, self.header.samples, strict=True))
        spans = [[position for image in cell for position in image] for cell in self.cells]
        return [
            replace(
                self,
                header=replace(self.header, samples=tuple(named[position] for position in span)),
                model=nn.Identity(),
                span=span,
                collectors=self.missing,
                reference=None,
                whole=True,
            )
            for end, span in zip(self.ends, spans, strict=True)
            if end > self.done
        ]
