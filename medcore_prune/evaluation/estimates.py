"""What long work will take, said before it starts: memory, disk and time, from a run without numbers and a short trial.

    estimate = mp.calibration_estimate(model, reference, samples=128, datasets=3)
    print(estimate)
    mp.require_memory(estimate)

Memory is counted in bytes of tensors beyond the weights that are loaded already. It is that of one batch of the very
work, run on tensors that have shapes and no numbers (`memory.peak_bytes`), so that estimates lie beside the work.
"""

import os
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from rich.filesize import decimal
from torch import nn

from .._support.devices import free_bytes
from .._support.errors import MedcorePruneError
from .._support.machines.launched import processes_here
from .._support.progress import duration
from ..models.calls.call import on_models
from ..models.families import blocks_of, family_of, geometry_of
from ..models.macs import macs_of
from ..models.protocol import blank_batch, decode, low_res_logits, masks_from_logits
from .evaluate import BATCH_SIZE
from .images import KEPT_BYTES
from .memory import peak_bytes

_CGROUPS = Path("/sys/fs/cgroup")
_OWN_CGROUPS = Path("/proc/self/cgroup")
_MEMINFO = Path("/proc/meminfo")
_NO_LIMIT = 1 << 60
"""Above this, version 1 of control groups means that there is no limit."""


def available_bytes(device: str | torch.device = "cpu") -> int | None:
    """Bytes that may still be taken on a device, or None where the system does not tell.

    On a processor the least of what the machine has available and of what each control group (a container) above this
    process allows, shared among processes that train together; files in the page cache count as free. On a CUDA device
    its free memory and what PyTorch holds in reserve.
    """
    place = torch.device(device)
    if place.type == "cuda":
        return free_bytes(place)
    if place.type != "cpu":
        return None
    bounds = [left // processes_here() for left in (_of_machine(), *_of_cgroups()) if left is not None]
    return min(bounds, default=None)


def _of_machine() -> int | None:
    try:
        for line in _MEMINFO.read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) << 10
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError):
        return None


def _of_cgroups() -> Iterator[int | None]:
    """What each group from this process's own up to the root leaves, in both versions of control groups."""
    paths = {"": "", "memory": ""}
    try:
        for line in _OWN_CGROUPS.read_text().splitlines():
            _, controllers, path = line.split(":", 2)
            if controllers in paths:
                paths[controllers] = path.strip("/")
    except (OSError, ValueError):
        pass
    for root, path, names in (
        (_CGROUPS, paths[""], ("memory.max", "memory.current", "inactive_file")),
        (
            _CGROUPS / "memory",
            paths["memory"],
            ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
        ),
    ):
        folder = root / path
        for each in (folder, *folder.parents):
            yield _left_in(each, *names)
            if each == root:
                break


def _left_in(folder: Path, limit_name: str, used_name: str, cache_name: str) -> int | None:
    try:
        limit = int((folder / limit_name).read_text())
        used = int((folder / used_name).read_text())
    except (OSError, ValueError):  # no such group, or "max"
        return None
    if limit >= _NO_LIMIT:
        return None
    return max(0, limit - used + _file_cache(folder / "memory.stat", cache_name))


def _file_cache(path: Path, name: str) -> int:
    try:
        lines = (line.split() for line in path.read_text().splitlines())
        return next((int(fields[1]) for fields in lines if fields[0] == name), 0)
    except (OSError, ValueError, IndexError):
        return 0


@dataclass(frozen=True)
class Estimate:
    """What a piece of work will take.

    Attributes:
        work: Its name.
        passes: Images that go through a model, as often as they do.
        batch_size: Images at a time.
        fixed: Bytes that are held whatever the batch, by what they are for.
        per_image: What one batch takes besides, as bytes an image; `work` is all that a run of it has alive.
        disk_bytes: Bytes of files that will be written.
        seconds: How long, where a trial was wanted.
        device: Where the work runs.
        remedies: What else takes less memory.
    """

    work: str
    passes: int
    batch_size: int
    fixed: Mapping[str, int]
    per_image: Mapping[str, int]
    disk_bytes: int
    seconds: float | None
    device: str
    remedies: tuple[str, ...]

    @property
    def memory_bytes(self) -> int:
        """Most bytes of tensors at a time, beyond the loaded weights."""
        return sum(self.fixed.values()) + self.batch_size * sum(self.per_image.values())

    def parts(self) -> dict[str, int]:
        """Bytes of the whole batch by what they are for, largest first."""
        parts = {**self.fixed, **{name: self.batch_size * size for name, size in self.per_image.items()}}
        return dict(sorted(parts.items(), key=lambda item: -item[1]))

    def largest_batch(self, limit_bytes: int) -> int:
        """Most images a batch that fit into so many bytes; 0 where none does."""
        left = limit_bytes - sum(self.fixed.values())
        return max(0, left // max(1, sum(self.per_image.values())))

    def __str__(self) -> str:
        detail = ", ".join(f"{name} {decimal(size)}" for name, size in self.parts().items() if size)
        lines = [f"{self.work}: {self.passes} passes, {self.batch_size} at a time"]
        if self.seconds is not None:
            lines.append(f"about {duration(self.seconds)}")
        lines.append(f"{decimal(self.memory_bytes)} of memory ({detail})")
        if self.disk_bytes:
            lines.append(f"{decimal(self.disk_bytes)} on disk")
        return ", ".join(lines)


def require_memory(estimate: Estimate, limit_bytes: int | None = None) -> None:
    """Refuse work that would not fit into memory, before it starts and is killed.

    Args:
        estimate: Of the work.
        limit_bytes: What may be taken; by default what is available on the estimate's device.

    Raises:
        MedcorePruneError: It does not fit; the message names need and limit, and what to do.
    """
    limit = available_bytes(estimate.device) if limit_bytes is None else limit_bytes
    if limit is None or estimate.memory_bytes <= limit:
        return
    batch = estimate.largest_batch(limit)
    smaller = [f"a batch of {batch} (expected to fit)"] if batch else []
    if not batch and estimate.batch_size > 1:
        smaller = ["a batch of 1 (not enough by itself)"]
    raise MedcorePruneError(
        f"{estimate.work} needs about {decimal(estimate.memory_bytes)} of memory and {estimate.device} has "
        f"{decimal(limit)} left: use {', '.join((*smaller, *estimate.remedies))}"
    )


_GRID_PX = 256


@dataclass(frozen=True)
class PredictionStep:
    """A batch of `predict`, on the grid that masks are compared on by default."""

    batch_size: int

    @torch.no_grad()
    def __call__(self, model: nn.Module) -> None:
        images, boxes, _ = blank_batch(model, self.batch_size)
        grid, frame = (_GRID_PX, _GRID_PX), geometry_of(model).frame
        masks_from_logits(low_res_logits(model, images, boxes), grid, grid, frame)


def input_bytes(model: nn.Module) -> int:
    """Bytes of one image and box as a model reads them."""
    return sum(part.nbytes for part in blank_batch(model, 1, "meta")[:2])


def held_images(model: nn.Module, images: int) -> int:
    """Most bytes of images that an `EvaluationSet` keeps for the next model, on its device or the processor."""
    return min(KEPT_BYTES, images * input_bytes(model))


def read_ahead(model: nn.Module) -> int:
    """Bytes an image of the batch that is read while another one is worked on; 0 for a model off the processor."""
    return input_bytes(model) if on_device(model).type == "cpu" else 0


def held_masks(model: nn.Module, images: int) -> int:
    """Most bytes of the true masks and of those that `predict` returns, packed; 0 for a model off the processor."""
    return images * 2 * _GRID_PX**2 // 8 if on_device(model).type == "cpu" else 0


def on_device(model: nn.Module) -> torch.device:
    """Where a model is; the processor for one in no memory."""
    device = next(model.parameters()).device
    return torch.device("cpu") if device.type == "meta" else device


def shared(total: int, batch_size: int) -> int:
    """Bytes an image of a batch that takes so many together, rounded up."""
    return -(-max(0, total) // batch_size)


@on_models("model", refuse=None)
def evaluation_estimate(
    model: nn.Module, images: int, *, batch_size: int = BATCH_SIZE, models: int = 1, trial: bool = True
) -> Estimate:
    """Estimate `evaluate`, without what comparing the masks takes.

    Args:
        model: As for `evaluate`.
        images: How many.
        batch_size: Images at a time.
        models: How many are evaluated on these images in one go; of several, images are kept up to 2 GB.
        trial: As for `calibration_estimate`.

    Returns:
        The estimate.
    """
    work = peak_bytes(PredictionStep(batch_size), model)
    return Estimate(
        work="evaluation",
        passes=images,
        batch_size=batch_size,
        fixed={"images": held_images(model, images) if models > 1 else 0, "masks": held_masks(model, images)},
        per_image={"work": shared(work, batch_size), "read ahead": read_ahead(model)},
        disk_bytes=0,
        seconds=images * seconds_per_image(model) if trial else None,
        device=str(next(model.parameters()).device),
        remedies=remedies(model, None),
    )


def remedies(model: nn.Module, recomputes: bool | None) -> tuple[str, ...]:
    """What takes less memory besides a smaller batch; None for work that recomputes nothing."""
    found = []
    if recomputes is False:
        found.append("checkpointing (blocks are recomputed)")
    fused = getattr(family_of(model), "attentions", {}).get("sdpa")
    if fused is not None and not all(isinstance(block.attention, fused) for block in blocks_of(model)):
        found.append('attention="sdpa"')
    return (*found, "another device")


@torch.no_grad()
def seconds_per_image(model: nn.Module, boxes: int = 1) -> float:
    """Estimate the time of a forward pass over one image and so many boxes, from a block of each kind and the decoder.

    The other blocks are scaled by their FLOPs (everything that runs). The model is a `Sam`, not on the meta device.
    """
    geometry, first = geometry_of(model), next(model.parameters())
    blocks, (around, inside) = blocks_of(model), macs_of(model)
    rates: dict[tuple[int, int, int], float] = {}
    kinds = [(block.window, block.tokens_side, block.width) for block in blocks]
    for block, kind, macs in zip(blocks, kinds, inside, strict=True):
        if kind not in rates:
            tokens = torch.randn((1, block.tokens_side, block.tokens_side, block.width)).to(first)
            rates[kind] = _seconds(model.get_submodule(block.name), tokens) / macs
    encoder = sum(macs * rates[kind] for macs, kind in zip(inside, kinds, strict=True))
    encoder += around * sum(rates.values()) / len(rates)
    last = blocks[-1].tokens_side
    embedding = torch.randn((boxes, geometry.out_channels + geometry.beside_channels, last, last)).to(first)
    box = torch.tensor([[0.25, 0.25, 0.5, 0.5]] * boxes, device=first.device) * geometry.image_size
    return encoder + _seconds(decode, model, embedding, box)


def _seconds(run: Callable[..., object], *args: object) -> float:
    """Time a call, once more where the first was quick enough to be mostly warming up."""
    elapsed = 0.0
    for _ in range(2):
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        start = time.perf_counter()
        run(*args)
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        elapsed = time.perf_counter() - start
        if elapsed > 0.5:
            break
    return elapsed
