"""What long work will take, said before it starts: memory, disk and time, from a model's sizes and a short trial.

    estimate = mp.calibration_estimate(model, reference, samples=128, datasets=3)
    print(estimate)
    mp.require_memory(estimate)

Memory is counted in bytes of tensors beyond the weights that are loaded already. It is meant to err on the large side.
"""

import math
import os
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from rich.filesize import decimal
from torch import nn

from .._support.errors import MedcorePruneError
from .._support.progress import duration
from ..calibration.collector import LOSSES, Need, check_losses, faults_named, layout_of, stored_shapes
from ..models import sdpa
from ..models.families import blocks_of, family_of, geometry_of
from ..models.family import Block, Geometry
from ..models.protocol import decode
from ..models.switches import is_checkpointing
from ..pruning.cost import count
from ..training.adapt import pool_size
from ..training.settings import DEFAULT_RECOVERY, RecoverySettings

_NECK_MAPS = 7
"""Maps of N x out_channels that the neck keeps besides its input: two convolutions, two norms of several steps."""
_DECODER_MAPS = 28
"""Likewise the mask decoder: six a layer of its transformer, three of its last attention, and the upscaling."""
_LOSS_GRIDS = 4
"""Grids of the input's size that both losses keep."""
_WORK_MAPS = 2.5
"""Attention maps alive beside the one that is kept, while scores become probabilities or gradients of them."""


@dataclass(frozen=True)
class Activations:
    """Bytes for one image.

    Attributes:
        kept: What autograd keeps of the blocks.
        entering: What enters the blocks; with checkpointing all that is kept, apart from one block at a time.
        largest_block: Of `kept`, the share of the largest block.
        around: What autograd keeps of neck, prompt and mask decoder, and losses.
        layer_gradients: Gradients at the outputs of the prunable layers, which calibration holds between two losses.
        attention_work: Most that one attention has alive at a time beside what is kept, with gradients.
        forward_work: Most that a forward pass without gradients has alive at a time.
        weight_gradient: The largest weight gradient of one sample.
    """

    kept: int
    entering: int
    largest_block: int
    around: int
    layer_gradients: int
    attention_work: int
    forward_work: int
    weight_gradient: int

    def saved(self, checkpointing: bool) -> int:
        """Bytes kept at the end of the forward pass, or with checkpointing while the largest block is recomputed."""
        return self.around + (self.entering + self.largest_block if checkpointing else self.kept)


@dataclass(frozen=True)
class _Sizes:
    """The sizes of a block by the names of the module's docstring, and bytes a number."""

    block: Block
    geometry: Geometry
    element: int

    @property
    def n(self) -> int:
        return self.geometry.tokens_side**2

    @property
    def side(self) -> int:
        return self.block.window or self.geometry.tokens_side

    @property
    def padded(self) -> int:
        return (self.side * -(-self.geometry.tokens_side // self.side)) ** 2

    @property
    def channels(self) -> int:
        return self.block.num_heads * self.block.head_dim

    @property
    def maps(self) -> int:
        return self.block.num_heads * self.padded * self.side**2

    @property
    def fused(self) -> bool:
        return isinstance(self.block.attention, sdpa.SdpaAttention)

    @property
    def longer(self) -> int:
        positions = 2 * self.side if getattr(self.block.attention, "use_rel_pos", False) else 0
        return self.block.num_heads * self.padded * (self.block.head_dim + positions)

    def kept(self) -> int:
        d = self.geometry.embed_dim
        attention = 4 * self.longer - self.padded * self.channels
        if not self.fused:
            attention = self.maps + 3 * self.padded * self.channels // 2
        rest = 3 * self.n * d + self.padded * d + 5 * self.padded * self.channels + 2 * self.n * self.block.neurons
        return self.element * (rest + attention)

    def layer_gradients(self) -> int:
        d = self.geometry.embed_dim
        return self.element * (self.padded * (3 * self.channels + d) + self.n * (self.block.neurons + d))

    def attention_work(self) -> int:
        return self.element * (5 * self.longer if self.fused else round(_WORK_MAPS * self.maps))

    def forward_work(self) -> int:
        d, tokens = self.geometry.embed_dim, self.padded * self.channels
        if self.fused:
            # a mask, and the larger of its two copies while it is made
            attention = (
                2 * min(max(sdpa.MASK_BYTES // self.element, self.padded * self.side**2), self.maps) + 5 * tokens
            )
        else:
            attention = 3 * self.maps + 4 * tokens
        return self.element * (2 * self.n * d + max(attention, 2 * self.n * self.block.neurons + self.n * d))


def activations_of(model: nn.Module) -> Activations:
    """Count what one image takes in a model as it is: its size, heads, neurons and attention.

    Args:
        model: A `Sam` or its encoder, on any device, `meta` included.

    Returns:
        Bytes, in the model's own dtype.
    """
    geometry = geometry_of(model)
    element = next(model.parameters()).element_size()
    sizes = [_Sizes(block, geometry, element) for block in blocks_of(model)]
    n = geometry.tokens_side**2
    around = n * geometry.embed_dim + (_NECK_MAPS + _DECODER_MAPS) * n * geometry.out_channels
    return Activations(
        kept=sum(each.kept() for each in sizes),
        entering=element * len(sizes) * n * geometry.embed_dim,
        largest_block=_most(each.kept() for each in sizes),
        around=element * (around + _LOSS_GRIDS * geometry.image_size**2),
        layer_gradients=sum(each.layer_gradients() for each in sizes),
        attention_work=_most(each.attention_work() for each in sizes),
        forward_work=_most(each.forward_work() for each in sizes),
        weight_gradient=_most(layer.weight.numel() * element for each in sizes for layer in each.block.layers.values()),
    )


def _most(values: Iterable[int]) -> int:
    return max(values, default=0)


_CGROUPS = Path("/sys/fs/cgroup")
_OWN_CGROUPS = Path("/proc/self/cgroup")
_MEMINFO = Path("/proc/meminfo")
_NO_LIMIT = 1 << 60
"""Above this, version 1 of control groups means that there is no limit."""


def available_bytes(device: str | torch.device = "cpu") -> int | None:
    """Bytes that may still be taken on a device.

    On a processor the least of what the machine has available and of what each control group (a container) above this
    process allows; files in the page cache count as free. On a CUDA device its free memory and what PyTorch holds in
    reserve.

    Args:
        device: Where the work will run.

    Returns:
        Bytes, or None where the system does not tell.
    """
    place = torch.device(device)
    if place.type == "cuda":
        reserve = torch.cuda.memory_reserved(place) - torch.cuda.memory_allocated(place)
        return int(torch.cuda.mem_get_info(place)[0]) + reserve
    if place.type != "cpu":
        return None
    return min((left for left in (_of_machine(), *_of_cgroups()) if left is not None), default=None)


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
        fixed: Bytes that do not depend on the batch, by what they are for.
        per_image: Bytes for each image of a batch, by what they are for.
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


_RGB = 3


def calibration_estimate(
    model: nn.Module,
    reference: nn.Module | None = None,
    *,
    samples: int = 128,
    datasets: int = 1,
    batch_size: int = 8,
    needs: Collection[str] | None = None,
    losses: Sequence[str] = LOSSES,
    checkpointing: bool | None = None,
    trial: bool = True,
) -> Estimate:
    """Estimate `calibrate`.

    Args:
        model, reference, samples, batch_size, needs, losses: As for `calibrate`.
        datasets: Data sets, each of which gives `samples` images.
        checkpointing: Whether blocks are recomputed; by default as the model is set.
        trial: Time a few layers for the seconds, a few seconds at most.

    Returns:
        The estimate. Files that exist already are not taken off.

    Raises:
        StatisticsError: Other losses than `calibrate` takes.
    """
    check_losses(losses)
    kinds = _kinds(needs, reference)
    recomputes = is_checkpointing(model) if checkpointing is None else checkpointing
    element = max(4, next(model.parameters()).element_size())
    sizes = {need: element * _numbers(model, need.kind, losses) for need in kinds}
    roles = {need.role for need in kinds if need.summed}
    sums = max((sum(sizes[need] for need in kinds if need.role == role) for role in roles), default=0)
    one = activations_of(model)
    several = len(losses) - 1
    passes = len(roles) * datasets * samples
    forwards = 1 + len(losses) * (3 if recomputes else 2)
    return Estimate(
        work="calibration",
        passes=passes,
        batch_size=batch_size,
        fixed={"sums": sums},
        per_image={
            "activations": _alive(one, recomputes, kept_on=bool(several)),
            "layer gradients": several * one.layer_gradients,
            "work": max(one.attention_work, (len(losses) + 1) * one.weight_gradient),
        },
        disk_bytes=sum(size * (datasets if need.summed else 1) for need, size in sizes.items()),
        seconds=passes * forwards * seconds_per_image(model) if trial else None,
        device=str(next(model.parameters()).device),
        remedies=_remedies(model, recomputes),
    )


def recovery_estimate(
    model: nn.Module,
    teacher: nn.Module,
    settings: RecoverySettings = DEFAULT_RECOVERY,
    *,
    images: int = 0,
    validation_images: int = 0,
    checkpointing: bool | None = None,
    trial: bool = True,
) -> Estimate:
    """Estimate `recover`, in float32.

    Args:
        model, teacher, settings: As for `recover`.
        images: Training images, which are held as bytes.
        validation_images: Images of each look at the validation split.
        checkpointing, trial: As for `calibration_estimate`.

    Returns:
        The estimate.
    """
    recomputes = is_checkpointing(model) if checkpointing is None else checkpointing
    trained = sum(
        p.numel() * p.element_size() for name, p in model.named_parameters() if not name.startswith("prompt_encoder.")
    )
    looks = 1 + settings.steps // settings.validate_every if settings.validate_every and validation_images else 0
    one, taught = activations_of(model), activations_of(teacher)
    steps, checks = settings.steps * settings.batch_size, looks * validation_images
    seconds = None
    if trial:
        own = seconds_per_image(model)
        seconds = (steps * (4 if recomputes else 3) + checks) * own + steps * seconds_per_image(teacher)
    return Estimate(
        work="recovery",
        passes=steps + checks,
        batch_size=settings.batch_size,
        # AdamW's two moments, the gradients, and the best weights so far
        fixed={"optimiser": 4 * trained, "images": images * (_RGB + 1) * pool_size(model) ** 2},
        per_image={
            "activations": _alive(one, recomputes, kept_on=False),
            "work": max(one.attention_work, taught.forward_work),
        },
        # a state holds weights, moments and best weights
        disk_bytes=4 * trained,
        seconds=seconds,
        device=str(next(model.parameters()).device),
        remedies=_remedies(model, recomputes),
    )


def evaluation_estimate(model: nn.Module, images: int, *, batch_size: int = 16, trial: bool = True) -> Estimate:
    """Estimate `evaluate`: forward passes, without what comparing the masks takes.

    Args:
        model: As for `evaluate`.
        images: How many.
        batch_size: Images at a time.
        trial: As for `calibration_estimate`.

    Returns:
        The estimate.
    """
    one = activations_of(model)
    return Estimate(
        work="evaluation",
        passes=images,
        batch_size=batch_size,
        fixed={},
        per_image={"work": one.forward_work},
        disk_bytes=0,
        seconds=images * seconds_per_image(model) if trial else None,
        device=str(next(model.parameters()).device),
        remedies=_remedies(model, None),
    )


def _kinds(needs: Collection[str] | None, reference: nn.Module | None) -> list[Need]:
    if needs is not None:
        return [Need(need) for need in needs]
    return [Need.FISHER, *([Need.REFERENCE_FISHER, Need.REFERENCE_WEIGHTS] if reference is not None else [])]


def _numbers(model: nn.Module, kind: str, losses: Sequence[str]) -> int:
    layout = layout_of(kind)
    if layout is None:
        return 0
    with faults_named(kind):
        return sum(math.prod(shape) for shape in stored_shapes(layout, losses, model).values())


def _alive(one: Activations, recomputes: bool, kept_on: bool) -> int:
    """Bytes kept at the worst moment of a backward pass; `kept_on` where the graph is run a second time."""
    if recomputes and not kept_on:
        # what surrounds the blocks is gone by the time they are recomputed
        return one.entering + max(one.around, one.largest_block)
    return one.saved(recomputes)


def _remedies(model: nn.Module, recomputes: bool | None) -> tuple[str, ...]:
    found = []
    if recomputes is False:
        found.append("checkpointing (blocks are recomputed)")
    fused = getattr(family_of(model), "attentions", {}).get("sdpa")
    if fused is not None and not all(isinstance(block.attention, fused) for block in blocks_of(model)):
        found.append('attention="sdpa"')
    return (*found, "another device")


@torch.no_grad()
def seconds_per_image(model: nn.Module) -> float:
    """Estimate the time of a forward pass over one image, from one block of each kind and the mask decoder.

    The other blocks are scaled by their FLOPs (`cost.count`, everything that runs).

    Args:
        model: A `Sam`, not on the meta device.

    Returns:
        Seconds.
    """
    geometry, device = geometry_of(model), next(model.parameters()).device
    dtype, side = next(model.parameters()).dtype, geometry.tokens_side
    tokens = torch.randn((1, side, side, geometry.embed_dim), device=device, dtype=dtype)
    embedding = torch.randn((1, geometry.out_channels, side, side), device=device, dtype=dtype)
    box = torch.tensor([[0.25, 0.25, 0.5, 0.5]], device=device) * geometry.image_size
    cost = count(model, convention="full")
    rates: dict[int, float] = {}
    for block, size in zip(blocks_of(model), cost.per_block, strict=True):
        if block.window not in rates:
            rates[block.window] = _seconds(model.get_submodule(block.name), tokens) / size.flops
    inside = sum(size.flops * rates[size.window] for size in cost.per_block)
    stem = (cost.flops - sum(size.flops for size in cost.per_block)) * sum(rates.values()) / len(rates)
    return inside + stem + _seconds(decode, model, embedding, box)


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
