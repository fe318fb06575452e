"""One piece of calibration: some samples of one data set through one model, kept in files that survive a kill."""

import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
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
from ..models.calls.call import undisturbed, working_on
from ..models.families import geometry_of
from .collector import get_collector, is_own, version_of
from .storage import FilePart, Header, write_part
from .sums import Accumulator

Images = Sequence[Sequence[int]]
"""Some images by the positions of their samples, as `reading.by_image` finds them."""
Read: TypeAlias = tuple[Tensor, Tensor, Tensor, list[str], tuple[int, ...]]
"""Images (N, 3, S, S), boxes (B, 4), masks (B, 1, S, S) bool, names for errors, and the image of each of the B."""


def read_batch(samples: SampleSet, images: Images, model: nn.Module) -> Read:
    """Read images with all their samples in the size and on the device of the model, for `Accumulator.add`."""
    return _moved(_read(samples, images, model), model)


def read_ahead(steps: Iterable[tuple["Job", Images]]) -> Iterator[tuple["Job", Read]]:
    """Yield each job with its images as `read_batch` reads them, those of the next step being read meanwhile."""
    for job, read in ahead((job, _read(job.samples, images, job.model)) for job, images in steps):
        yield job, _moved(read, job.model)


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
    """

    header: Header
    model: nn.Module
    samples: SampleSet
    span: range
    collectors: Sequence[str]
    cache: Path
    reference: nn.Module | None = None
    batch_size: int = 8
    keep_smaller: bool = True

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
    def partial_path(self) -> Path:
        """Where the sums of an unfinished run are kept; its name says in which order they are, if not the set's own."""
        order = [position for image in self.images for position in image]
        words = ["partial", *([] if order == list(self.span) else ["by", "image"]), *map(self._stem, self.missing)]
        return self.folder / f"{'-'.join(words)}.safetensors"

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

        Of whole batches alone, so that whoever goes on from it comes to the very same sums; and only where each image
        has one sample, for others are summed in another order.
        """
        if not self.missing or any(len(image) > 1 for image in self.images):
            return None
        return self._smaller(self.missing, self.batch_size)

    def _smaller(self, collectors: Sequence[str], step: int) -> "Job | None":
        for count in range((len(self.span) - 1) // step * step, 0, -step):
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
            if (job := self._smaller([name], 1)) is not None:
                job.path(name).unlink(missing_ok=True)

    @property
    def done(self) -> int:
        """Samples that need not run again."""
        if not self.missing:
            return len(self.span)
        return max(self.partial.progress if self.partial else 0, len(self.smaller.span) if self.smaller else 0)

    def sums_so_far(self) -> Iterator[tuple[str, str, Tensor]]:
        """Collector, key and value of the sums over the samples that are done, of what is missing."""
        if self.partial and self.partial.progress == self.done:
            for key in self.partial.names:
                name, _, inner = key.partition(":")
                yield name, inner, self.partial.tensor(key)
        elif self.smaller:
            for name, part in zip(self.missing, self.smaller.parts(), strict=True):
                for key in part.names:
                    yield name, key, part.tensor(key)

    @property
    def batches(self) -> list[Images]:
        """Images that remain, in batches, each of as many samples an image."""
        if self.done == len(self.span):
            return []
        counts = [0, *accumulate(map(len, self.images))]
        return list(in_batches(self.images[counts.index(self.done) :], self.batch_size, alike=True))

    def parts(self) -> list[FilePart]:
        """Open the finished files."""
        parts = [FilePart(self.path(name)) for name in self.collectors]
        for name, part in zip(self.collectors, parts, strict=True):
            if part.header != self.header_of(name) or part.progress >= 0:
                raise StatisticsError(f"{part.path}: belongs to another calibration: remove it and calibrate again")
        return parts

    def alone(self) -> "Job":
        """Return what is missing, without models and what was looked up, to be sent elsewhere."""
        return replace(self, model=nn.Identity(), reference=None, collectors=self.missing)


def summed(models: Mapping[str, tuple[nn.Module, nn.Module | None]], job: Job) -> Iterator[Mapping[str, bytes]]:
    """Sum a job that came `alone`, with the models of its role; yield its files, name to content."""
    model, reference = models[job.header.role]
    with tempfile.TemporaryDirectory() as place, working_on(model, reference), undisturbed():
        here = replace(job, model=model, reference=reference, cache=Path(place))
        runner = Runner(here, save_every_s=float("inf"))
        for _, read in read_ahead((here, batch) for batch in here.batches):
            runner.add(read)
        yield {path.name: path.read_bytes() for path in map(here.path, here.collectors)}


class Runner:
    """Runs a job that misses something, batch by batch, from where it stopped."""

    def __init__(self, job: Job, save_every_s: float) -> None:
        self._job, self._save_every_s, self._saved = job, save_every_s, time.monotonic()
        self._sums = job.accumulator()
        for name, key, value in job.sums_so_far():
            self._sums.sums[name][key].copy_(value)
        self._sums.count = job.done

    def _flat(self) -> dict[str, Tensor]:
        return {f"{name}:{key}": value for name, sums in self._sums.sums.items() for key, value in sums.items()}

    def add(self, read: Read) -> None:
        """Sum a batch; write the state now and then, and the result at the end."""
        self._sums.add(*read)
        if self._sums.count == len(self._job.span):
            self._finish()
        elif time.monotonic() - self._saved >= self._save_every_s:
            write_part(self._job.partial_path, self._job.partial_header, self._flat(), progress=self._sums.count)
            self._saved = time.monotonic()

    def _finish(self) -> None:
        self._require_finite()
        for name, sums in self._sums.sums.items():
            write_part(self._job.path(name), self._job.header_of(name), sums)
        self._job.partial_path.unlink(missing_ok=True)
        self._job.remove_smaller()

    def _require_finite(self) -> None:
        all_sums = [(name, key, value) for name, sums in self._sums.sums.items() for key, value in sums.items()]
        finite = [torch.isfinite(value).all() for _, _, value in all_sums]
        # one answer of the device for all of them
        for (name, key, _), good in zip(all_sums, torch.stack(finite).tolist() if finite else (), strict=True):
            if not good:
                raise _not_finite(name, key, self._job.header.dataset)


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
