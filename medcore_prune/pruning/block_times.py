"""What every block takes on this machine, by the heads and neurons that it has: milliseconds as a unit of cost.

Neither parameters nor FLOPs say how long a layer takes: a head of a global block costs more than one of a window, and
a product of few channels hardly less than one of twice as many. So some sizes are run, and those between are read off.
"""

import os
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from itertools import accumulate
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from .._support.devices import processor
from .._support.errors import BudgetError, ResultsError
from .._support.files import read_json_file, user_cache, write_json_atomic
from .._support.memo import Memo
from .._support.records import content_hash
from ..evaluation.latency import interleaved, noise
from ..models.families import blocks_of, geometry_of
from ..models.groups import StructuredGroup, groups_of
from ..models.precision import current_precision
from ..models.protocol import embed
from .budget import Key, min_keep
from .planning import plan_of_counts
from .surgery import prune
from .times import ROUNDS, BlockTimes, Curve

SIZES = 6
"""Sizes of each block that are run."""
_FORMAT = "medcore_prune.block_times/1"


@torch.inference_mode(False)
@torch.no_grad()
def block_times(
    model: nn.Module,
    *,
    batch: int = 1,
    rounds: int = ROUNDS,
    cache_dir: str | Path | None = None,
    progress: bool = True,
) -> BlockTimes:
    """Measure what the parts of a model's encoder take over their heads and neurons, once for a machine.

    Pruned copies of `SIZES` sizes run in turn, round after round, each block's attention and MLP timed inside; medians
    count. Weights play no part, so that what was measured is kept for all models of these sizes.

    Args:
        model: A model of a known family, where and as it will run: device, number type and attention are those timed.
        batch: Images at a time.
        rounds: Rounds that count.
        cache_dir: Where times are kept; by default `user_cache()`.
        progress: Show how far it is.

    Returns:
        The times, to hand to `automatic_plan` and `searched_plan`.

    Raises:
        BudgetError: No images, or no rounds.
        ResultsError: The file of kept times is damaged.
    """
    if batch < 1 or rounds < 1:
        raise BudgetError(f"batch {batch}, rounds {rounds}: expected at least 1 each to measure anything")
    about = _about(model, batch)
    path = Path(user_cache() if cache_dir is None else cache_dir) / "block_times" / f"{content_hash(about)[:24]}.json"
    memo = Memo(path, lambda found: _read(found, about), _write, "measurement of block times")
    return memo.get_or_make(lambda: _measured(model, about, rounds, path, progress))


def ladder_of(group: StructuredGroup) -> list[int]:
    """Sizes of a group that are run, `SIZES` of them: from what always stays to all of its units."""
    least, most = min_keep(group), group.n_units
    return [least + round(step * (most - least) / (SIZES - 1)) for step in range(SIZES)]


def _measured(model: nn.Module, about: Mapping[str, Any], rounds: int, path: Path | None, progress: bool) -> BlockTimes:
    groups = groups_of(model)
    sizes = {(group.block, group.family): ladder_of(group) for group in groups}
    scores = {(group.block, group.family): torch.zeros(group.n_units) for group in groups}
    images = noise(model, int(about["batch"]))[0]

    def run_of(step: int) -> Callable[[], tuple[dict[Key, float], float]]:
        kept = {key: counts[step] for key, counts in sizes.items()}
        small = prune(model, plan_of_counts(model, kept, scores, level=f"size {step + 1} of {SIZES}")).eval()
        return lambda: timed_parts(small, images)

    label = "timing blocks" if progress else ""
    found = interleaved({step: run_of(step) for step in range(SIZES)}, rounds, label=label)
    curves, rest = dict[Key, Curve](), list[float]()
    for key, counts in sizes.items():
        medians = [statistics.median(parts[key] for parts, _ in found[step]) for step in range(SIZES)]
        curves[key] = _curve(counts, medians)
    for of_step in found.values():
        rest += [total - sum(parts.values()) for parts, total in of_step]
    return BlockTimes(curves, statistics.median(rest), about, path)


def timed_parts(model: nn.Module, images: Tensor) -> tuple[dict[Key, float], float]:
    """Milliseconds of each block's attention and MLP in one run of the encoder, and of the whole run."""
    clock = _Clock(images.device)
    marks: dict[Key, list[Any]] = {}
    handles = []
    for block in blocks_of(model):
        ends = ("heads", block.attention, block.attention), ("neurons", block.layers["lin1"], block.layers["lin2"])
        for family, first, last in ends:
            places = marks.setdefault((block.index, family), [])  # type: ignore[arg-type]
            handles.append(first.register_forward_pre_hook(lambda *_, places=places: places.append(clock.mark())))
            handles.append(last.register_forward_hook(lambda *_, places=places: places.append(clock.mark())))
    try:
        start = clock.mark()
        embed(model, images)
        end = clock.mark()
    finally:
        for handle in handles:
            handle.remove()
    clock.wait()
    return {key: clock.ms(*places) for key, places in marks.items()}, clock.ms(start, end)


class _Clock:
    """Marks in the order of the device's work; on a GPU, whose kernels are queued, events that it passes."""

    def __init__(self, device: torch.device) -> None:
        self._device = device if device.type == "cuda" else None

    def mark(self) -> Any:
        if self._device is None:
            return time.perf_counter()
        event = torch.cuda.Event(enable_timing=True)
        event.record(torch.cuda.current_stream(self._device))
        return event

    def wait(self) -> None:
        if self._device is not None:
            torch.cuda.synchronize(self._device)

    def ms(self, start: Any, end: Any) -> float:
        return float(1e3 * (end - start) if self._device is None else start.elapsed_time(end))


def _curve(counts: Sequence[int], times_ms: Sequence[float]) -> Curve:
    """Units and times; a size that was timed faster than a smaller one takes as long as that, for noise."""
    of_count: dict[int, list[float]] = {}
    for count, each in zip(counts, times_ms, strict=True):
        of_count.setdefault(count, []).append(each)
    rising = accumulate((statistics.median(of_count[count]) for count in sorted(of_count)), max)
    return tuple(zip(sorted(of_count), rising, strict=True))


def _about(model: nn.Module, batch: int) -> dict[str, Any]:
    device = next(model.parameters()).device
    on_gpu = device.type == "cuda"
    return {
        "format": _FORMAT,
        "blocks": [
            [block.num_heads, block.head_dim, block.neurons, block.width, block.window, type(block.attention).__name__]
            for block in blocks_of(model)
        ],
        "encoder": asdict(geometry_of(model)),
        "dtype": str(next(model.parameters()).dtype),
        "device": torch.cuda.get_device_name(device) if on_gpu else processor(),
        "precision": current_precision(device),
        "threads": 0 if on_gpu else torch.get_num_threads(),
        "cores": os.cpu_count(),
        "torch": torch.__version__,
        "batch": batch,
    }


def _write(path: Path, times: BlockTimes) -> None:
    curves = [[*key, [list(point) for point in curve]] for key, curve in times.curves.items()]
    write_json_atomic(path, {"measured": times.measured, "rest_ms": times.rest_ms, "curves": curves})


def _read(path: Path, about: Mapping[str, Any]) -> BlockTimes | None:
    try:
        stored = read_json_file(path)
        if stored["measured"] != dict(about):
            return None
        curves = {
            (int(block), family): tuple((int(units), float(ms)) for units, ms in curve)
            for block, family, curve in stored["curves"]
        }
        return BlockTimes(curves, float(stored["rest_ms"]), about, path)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ResultsError(f"{path} is damaged ({str(error)[:80]}): delete this file and measure again") from error
