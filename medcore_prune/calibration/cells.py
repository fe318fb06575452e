"""The cells of a calibration's jobs: summed here or elsewhere, and added in their order to the same bits."""

import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn

from .._support.errors import StatisticsError
from ..models.calls.call import undisturbed, working_on
from .collector import is_own
from .job import WHOLE, Job, Read, Sums, read_ahead
from .storage import write_part


def summed(models: Mapping[str, tuple[nn.Module, nn.Module | None]], job: Job) -> Iterator[Mapping[str, bytes]]:
    """Sum a job that came `alone`, with the models of its role; yield its files, collector to content."""
    model, reference = models[job.header.role]
    with tempfile.TemporaryDirectory() as place, working_on(model, reference), undisturbed():
        here = replace(job, model=model, reference=reference, cache=Path(place))
        runner = Runner(here, save_every_s=float("inf"))
        for _, read in read_ahead((here, batch) for batch in here.batches):
            runner.add(read)
        yield {name: here.path(name).read_bytes() for name in here.collectors}


def sums_of(job: Job, files: Mapping[str, bytes]) -> Sums:
    """What `summed` found for a job, looked over and read."""
    with tempfile.TemporaryDirectory() as place:
        here = replace(job, cache=Path(place))
        here.folder.mkdir()
        for name, content in files.items():
            here.path(name).write_bytes(content)
        return {part.header.kind: {key: part.tensor(key) for key in part.names} for part in here.parts()}


class Cells:
    """Adds the sums of a job's cells in their order; writes the state now and then, and the result at the end."""

    def __init__(self, job: Job, save_every_s: float) -> None:
        self._job, self._save_every_s, self._saved = job, save_every_s, time.monotonic()
        self._sums: Sums = {}
        for whole, name, key, value in job.sums_so_far():
            if whole:
                self._sums.setdefault(name, {})[key] = value
        self._ended = sum(end <= job.done for end in job.ends)

    def add(self, sums: Sums) -> None:
        """Add those of the next cell, which are then the caller's again unless it was the only one."""
        if len(self._job.cells) == 1:
            self._sums = sums
        elif not self._sums:
            # beside those of the next cell on a GPU there may be no room
            self._sums = {name: {key: value.to("cpu", copy=True) for key, value in sums[name].items()} for name in sums}
        else:
            for name, key, value in _each(self._sums):
                value.add_(sums[name][key].cpu())
        self._ended += 1
        if self._ended == len(self._job.cells):
            self._finish()
        else:
            self.save({}, self._job.ends[self._ended - 1])

    def save(self, begun: Sums, done: int) -> None:
        """Write the state if it is time: so many samples are done, those of a begun cell among them."""
        if time.monotonic() - self._saved < self._save_every_s:
            return
        flat = {f"{name}:{key}": value for name, key, value in _each(begun)}
        flat |= {f"{WHOLE}{name}:{key}": value for name, key, value in _each(self._sums)}
        write_part(self._job.partial_path, self._job.partial_header, flat, progress=done)
        self._saved = time.monotonic()

    def _finish(self) -> None:
        self._require_finite()
        for name, sums in self._sums.items():
            write_part(self._job.path(name), self._job.header_of(name), sums)
        self._job.partial_path.unlink(missing_ok=True)
        self._job.remove_smaller()

    def _require_finite(self) -> None:
        all_sums = list(_each(self._sums))
        finite = [torch.isfinite(value).all() for _, _, value in all_sums]
        # one answer of the device for all of them
        for (name, key, _), good in zip(all_sums, torch.stack(finite).tolist() if finite else (), strict=True):
            if not good:
                raise _not_finite(name, key, self._job.header.dataset)


class Runner:
    """Runs a job that misses something, batch by batch, from where it stopped."""

    def __init__(self, job: Job, save_every_s: float) -> None:
        self._ends, self._cells, self._sums = job.ends, Cells(job, save_every_s), job.accumulator()
        for whole, name, key, value in job.sums_so_far():
            if not whole:
                self._sums.sums[name][key].copy_(value)
        self._sums.count = job.done

    def add(self, read: Read) -> None:
        """Sum a batch."""
        self._sums.add(*read)
        if self._sums.count not in self._ends:
            self._cells.save(self._sums.sums, self._sums.count)
            return
        self._cells.add(self._sums.sums)
        if self._sums.count < self._ends[-1]:
            for _, _, value in _each(self._sums.sums):
                value.zero_()


def _each(sums: Sums) -> Iterator[tuple[str, str, Tensor]]:
    return ((name, key, value) for name, of_one in sums.items() for key, value in of_one.items())


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
