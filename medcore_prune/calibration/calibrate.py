"""Calibration: run models over a few training images once, and keep what every criterion needs (METHOD section 5).

One run serves every criterion, level, seed and lambda_B. Results are cached by content, so that the same question is
never computed twice; a killed run goes on where it stopped and ends in the same numbers. Content is the images, the
model's weights and what its parts are; sums of a model with hooks of one's own are not found again by another process.
"""

import copy
import math
import shutil
import sys
import time
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Literal, TypeAlias

import torch
from rich.filesize import decimal
from torch import nn

from .._support.devices import refuse_half, require_default_dtype
from .._support.errors import StatisticsError
from .._support.files import require_writable, user_cache
from .._support.machines.executor import executor
from .._support.progress import duration, track
from ..data.samples import SampleSet
from ..data.splits.split import Data, training_samples
from ..models.calls.call import on_models
from ..models.families import geometry_of
from ..models.fingerprint import computation_hash, hooks_of
from ..models.pairs import require_aligned
from ..models.precision import products_in
from .cells import Cells, Runner, summed, sums_of
from .collector import LOSSES, Need, check_losses, get_collector, prunable_layers, shapes_of, wanted_needs
from .job import Images, Job, read_ahead, read_batch
from .statistics import Statistics
from .storage import FilePart, Header, write_part

Shards: TypeAlias = Sequence[int] | Literal["powers"] | None

_FIRST_SHARD = 8
_FEW = 32
"""Samples, of all data sets and models, that are not timed beforehand: the trial runs up to four."""


@on_models("model", "reference")
def calibrate(
    model: nn.Module,
    reference: nn.Module | None = None,
    data: Data | None = None,
    samples: int = 128,
    needs: Collection[str] | None = None,
    *,
    cache_dir: str | Path | None = None,
    batch_size: int = 8,
    seed: int = 0,
    shards: Shards = None,
    losses: Sequence[str] = LOSSES,
    device: str | torch.device | None = None,
    precision: str | None = None,
    save_every_s: float = 30.0,
    keep_smaller: bool = True,
    progress: bool = True,
) -> Statistics:
    """Collect what criteria need, on training images.

    Args:
        model: The adapted `Sam`, theta_M; left as it is.
        reference: The reference, theta_S, aligned with `model` parameter by parameter.
        data: A split, whose training part is drawn from, or training samples by data set. Images whose object vanishes
            at the model's input size are passed over.
        samples: Images drawn from each data set; a smaller set is taken whole. Where the cache holds sums over fewer
            images of the same draw, in whole batches, they are gone on from.
        needs: What to collect, also by name; by default the Fisher, and the reference's Fisher and weights where there
            is one.
        cache_dir: Where files are kept; by default `user_cache()`.
        batch_size: Images at a time; changes the numbers by rounding alone.
        seed: Of the draw. Smaller draws begin larger ones.
        shards: Numbers of samples at which `Statistics.take` can cut, or `"powers"` for 8, 16, 32 and so on. Each
            shard is a file of full size.
        losses: `("plain",)` saves one of two backward passes where only lambda_B = 0 is wanted.
        device: Where to run; by default where the models are.
        precision: What networks run in, `"fp32"`, `"tf32"` or `"bf16"` (`mp.computing`); products and sums are
            float32 in any. None is what torch is set to. Sums of one precision are not taken for those of another.
        save_every_s: Seconds between saved states.
        keep_smaller: Whether the last sums over fewer images of the same draw stay in the cache; all are of full size.
        progress: Show estimates beforehand and time left meanwhile.

    Returns:
        Statistics over memory-mapped files in the cache.

    Raises:
        RegistryError: A need that no collector is registered for.
        StatisticsError: A need lacks its reference, a sample's loss or gradient is not finite, a file is damaged, or a
            collector of your own fails; nothing is then stored.
        SurgeryError: A model is within a `masked` block, or a part of it was compiled or patched.
        AlignmentError: The reference does not correspond to the model.
        DataError: No data, or an image that cannot be used.
        MedcorePruneError: A model is of half precision, or torch's default dtype is not float32.
        WriteError: The cache may not be written to, or its disk is full.
    """
    wanted = _needs(needs, reference)
    require_default_dtype()
    refuse_half(model)
    models = {"adapted": model}
    if reference is not None and any(need.needs_reference for need in wanted):
        require_aligned(model, reference)
        refuse_half(reference, "reference")
        models["reference"] = reference
    drawn = training_samples(data, "calibration", samples, seed, geometry_of(model).frame)
    if batch_size < 1:
        raise StatisticsError(f"batch_size is {batch_size}: expected at least 1")
    check_losses(losses)
    cache = Path(cache_dir) if cache_dir is not None else user_cache()
    # what hooks do is not known, so that sums with them are found as long as they are there, and never again
    if hooks := hooks_of(*models.values()):
        cache = cache / f"hooked-{hooks[:24]}"
    models = {role: _on(loaded, device) for role, loaded in models.items()}
    place = next(models["adapted"].parameters()).device
    with products_in(precision, place) as used:
        settings = Header("", "", losses=tuple(losses), precision=used)
        jobs = [
            job
            for role in models
            if (names := [need.kind for need in sorted(wanted) if need.role == role and need.summed])
            for job in _jobs(
                replace(settings, role=role), models, drawn, names, shards, cache, batch_size, keep_smaller
            )
        ]
        _run(jobs, save_every_s, cache, progress)
    parts = [part for job in jobs for part in job.parts()]
    if Need.REFERENCE_WEIGHTS in wanted:
        parts.append(_stored_weights(models["reference"], cache))
    return Statistics(parts)


def _needs(needs: Collection[str] | None, reference: nn.Module | None) -> frozenset[Need]:
    wanted = wanted_needs(needs, reference is not None)
    lacking = sorted(need for need in wanted if need.needs_reference)
    if lacking and reference is None:
        raise StatisticsError(f"collecting {', '.join(lacking)} takes a reference model: give reference=")
    return wanted


def _on(model: nn.Module, device: str | torch.device | None) -> nn.Module:
    here = next(model.parameters()).device
    return model if device is None or torch.device(device) == here else copy.deepcopy(model).to(device)


def _jobs(
    settings: Header,
    models: Mapping[str, nn.Module],
    drawn: Mapping[str, SampleSet],
    collectors: Sequence[str],
    shards: Shards,
    cache: Path,
    batch_size: int,
    keep_smaller: bool,
) -> Iterator[Job]:
    model, reference = models[settings.role], models.get("reference")
    read = reference if any(get_collector(name).reads_reference for name in collectors) else None
    read_hash = "" if read is None else computation_hash(read)
    settings = replace(settings, model_hash=computation_hash(model), reference_hash=read_hash)
    for dataset, samples in drawn.items():
        named = tuple(zip(samples.ids, samples.hashes(), strict=True))
        for span in _spans(len(samples), shards):
            header = replace(settings, dataset=dataset, samples=named[span.start : span.stop])
            yield Job(header, model, samples, span, collectors, cache, read, batch_size, keep_smaller)


def _spans(count: int, shards: Shards) -> list[range]:
    """Cut `count` samples at the shard boundaries."""
    if shards == "powers":
        shards = [_FIRST_SHARD << power for power in range(count.bit_length())]
    cuts = sorted({0, count, *(cut for cut in shards or () if 0 < cut < count)})
    return [range(start, stop) for start, stop in pairwise(cuts)]


def _run(jobs: Sequence[Job], save_every_s: float, cache: Path, progress: bool) -> None:
    for job in jobs:
        if not job.missing:
            job.remove_smaller()
    steps = [(job, batch) for job in jobs for batch in job.batches]
    if not steps:
        return
    _check_space(jobs, cache)
    if progress:
        _announce(jobs, steps, cache)
    if executor().apart:
        _run_apart([job for job in jobs if job.missing], save_every_s, progress)
        return
    done = sum(-(-job.done // job.batch_size) for job in jobs)
    runner, running = None, None
    for job, read in track(read_ahead(steps), "calibration", total=done + len(steps), done=done, show=progress):
        if job is not running:
            # the sums of the one before go first
            runner = None
            runner, running = Runner(job, save_every_s), job
        assert runner is not None
        runner.add(read)


def _run_apart(jobs: Sequence[Job], save_every_s: float, progress: bool) -> None:
    """Sum each cell elsewhere, from its first sample on, which comes to the same sums; files are written here."""
    models = {job.header.role: (job.model, job.reference) for job in jobs}
    parts = [(job, part) for job in jobs for part in job.alone()]
    named = {
        f"calibration on {job.header.dataset}, {job.header.role} model, from sample {part.span[0]}": part
        for job, part in parts
    }
    found = executor().map(summed, models, named)
    cells, running = None, None
    for (job, part), files in zip(parts, track(found, "calibration", total=len(parts), show=progress), strict=True):
        if job is not running:
            # the sums of the one before go first
            cells = None
            cells, running = Cells(job, save_every_s), job
        assert cells is not None
        cells.add(sums_of(part, files))


def _bytes(jobs: Iterable[Job]) -> int:
    """Size of the files that these jobs will write."""
    return sum(
        math.prod(shape) * max(4, next(job.model.parameters()).element_size())
        for job in jobs
        for name in job.missing
        for shape in shapes_of(name, job.header.losses, job.model).values()
    )


def _check_space(jobs: Sequence[Job], cache: Path) -> None:
    require_writable(cache)
    cache.mkdir(parents=True, exist_ok=True)
    # an unfinished state lies beside the finished files for a moment, of many samples with that of a begun cell
    needed = _bytes(jobs) + max(_bytes([job]) * min(2, len(job.cells)) for job in jobs)
    if (free := shutil.disk_usage(cache).free) < needed:
        raise StatisticsError(
            f"{cache} has {decimal(free)} free, calibration needs {decimal(needed)}: choose another cache_dir"
        )


def _announce(jobs: Sequence[Job], steps: Sequence[tuple[Job, Images]], cache: Path) -> None:
    remaining = sum(len(image) for _, batch in steps for image in batch)
    total = sum(len(job.span) for job in jobs)
    many = remaining > _FEW
    time_left = f"about {duration(remaining * _seconds_per_sample(*steps[0]))}" if many else "a few samples"
    stored = f" ({(total - remaining) / total:.0%} of it is there already)" if remaining < total else ""
    print(
        f"calibration: {time_left}{stored}; takes {decimal(_bytes(jobs))} in {cache}",
        file=sys.stderr,
        flush=True,
    )


def _seconds_per_sample(job: Job, batch: Images) -> float:
    """Time two images, the second time where the first was quick enough to be mostly warming up."""
    batch = batch[:2]
    trial = job.accumulator()
    elapsed = 0.0
    for _ in range(2):
        start = time.perf_counter()
        trial.add(*read_batch(job.samples, batch, job.model))
        elapsed = time.perf_counter() - start
        if elapsed > 2.0:
            break
    return elapsed / sum(map(len, batch))


def _stored_weights(reference: nn.Module, cache: Path) -> FilePart:
    header = Header("weights", "reference", model_hash=computation_hash(reference))
    path = cache / f"reference-weights-{header.model_hash[:24]}" / "weights.safetensors"
    if not path.exists():
        layers = prunable_layers(reference).items()
        values = {
            f"value/{layer_name}.{kind}": parameter.detach().float()
            for layer_name, layer in layers
            for kind, parameter in layer.named_parameters(recurse=False)
        }
        write_part(path, header, values)
    part = FilePart(path)
    if part.header != header:
        raise StatisticsError(f"{path}: belongs to another reference: remove it and calibrate again")
    return part
