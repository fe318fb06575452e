"""Ways to attend with relative positions, beside each other (`python -m ...benchmarks.speed.relative_positions`).

The bias as a mask, as a part of longer queries and keys, and in the score function of FlexAttention, which is compiled
on a GPU and runs as its slow reference on a CPU. Forward passes of the encoder, in turn, in one run: the ratios count.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache, partial
from typing import Any

import click
import torch
from torch import Tensor, nn
from torch.nn.attention.flex_attention import flex_attention

from ..._support.errors import MedcorePruneError
from ...evaluation.memory import measured
from ...models.families import blocks_of, encoder_of, geometry_of
from ...models.precision import PRECISIONS, computing
from ...models.sdpa import SdpaAttention, attend_differentiably, attend_masked, relative_terms
from ...models.segment_anything import build_sam
from ...models.switches import set_attention
from ...pruning.planning import plan
from ...pruning.surgery import prune
from .timed import REPEATS, SHAPE, Run, median_ms, median_ratio, recorded, rounds_of, seconds

Attend = Callable[[Tensor, Tensor, Tensor, tuple[Tensor, ...], float], Tensor]
LEVEL = "h50_m70"


@cache
def _compiled() -> Callable[..., Any]:
    return torch.compile(flex_attention)


def attend_flex(q: Tensor, k: Tensor, v: Tensor, tables: tuple[Tensor, ...], scale: float) -> Tensor:
    """Attention of q, k, v (B, n, d) with the bias in FlexAttention's score function."""
    by_row, by_column = relative_terms(q, tables)
    columns = len(tables[1])

    def biased(score: Tensor, map_: Tensor, _head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        return score + by_row[map_, query, key // columns] + by_column[map_, query, key % columns]

    # autocast does not reach into it
    q, k, v = (each.to(v.dtype) for each in (q, k, v))
    reference: Any = flex_attention
    run = _compiled() if q.is_cuda else reference
    out: Tensor = run(q[:, None], k[:, None], v[:, None], score_mod=biased, scale=scale)[:, 0]
    return out


WAYS: dict[str, Attend] = {"mask": attend_masked, "augmented": attend_differentiably, "flex": attend_flex}


@cache
def _attention(way: str) -> type[nn.Module]:
    """The fused attention's class, with one way for every block."""

    def attend(self: Any, q: Tensor, k: Tensor, v: Tensor, sides: tuple[int, int]) -> Tensor:
        return WAYS[way](q, k, v, self.tables(sides), self.scale)

    return type(f"{way.title()}Attention", (SdpaAttention,), {"_attend": attend})


@contextmanager
def attending(model: nn.Module, way: str) -> Iterator[None]:
    """Attend one way for as long as the block lasts, then as segment-anything does."""
    try:
        for block in blocks_of(model):
            block.attention.__class__ = _attention(way)
        yield
    finally:
        for block in blocks_of(model):
            block.attention.__class__ = SdpaAttention
        set_attention(model, "segment-anything")


@click.command()
@click.option("--model", type=SHAPE, default="pocket", show_default=True, help="Random weights.")
@click.option("--image-size", type=int, help="Input side in pixels.  [default: the model's own]")
@click.option("--batch-size", "batches", type=click.IntRange(1), multiple=True, default=(1, 8), show_default=True)
@REPEATS
@recorded
def command(model: str, image_size: int | None, batches: tuple[int, ...], repeats: int, run: Run) -> None:
    """Print milliseconds, ratios to the mask and peak bytes of every way, model, batch and precision, as JSON."""
    whole = build_sam(model, run.device, image_size=image_size).eval()
    models = {"dense": whole, LEVEL: prune(whole, plan(whole, LEVEL, "magnitude")).eval()}
    on_gpu = torch.device(run.device).type == "cuda"
    about = {
        "model": model,
        "image_size": geometry_of(whole).image_size,
        "flex": "compiled" if on_gpu else "its reference, not compiled: its time here says nothing of a GPU",
        "repeats": repeats,
    }
    run.record("relative_positions", about, lambda: {"rows": _rows(models, batches, repeats)})


def _rows(models: Mapping[str, nn.Module], batches: Sequence[int], repeats: int) -> list[dict[str, Any]]:
    return [
        {"cut": cut, "batch": batch, "precision": precision, **measure(each, batch, precision, repeats)}
        for cut, each in models.items()
        for batch in batches
        for precision in PRECISIONS
    ]


def measure(model: nn.Module, batch: int, precision: str, repeats: int) -> dict[str, Any]:
    """Time all ways in turn; for each `<way>_ms`, `<way>_to_mask`, `<way>_peak_mb` and how far its outputs are off.

    A precision that the device has not, and a way that it cannot run, are named in place of numbers.
    """
    size, device = geometry_of(model).image_size, next(model.parameters()).device
    images = torch.rand((batch, 3, size, size), generator=torch.Generator().manual_seed(0)).to(device)
    found: dict[str, Any] = {}
    try:
        with computing(precision, device), torch.no_grad():
            expected = _run(model, images, "mask")
            works = dict[str, Callable[[], Tensor]]()
            for way in WAYS:
                run = partial(_run, model, images, way)
                try:
                    got = run()
                    # what counts on a CPU does not see into FlexAttention
                    peak = _peak_bytes(run, device) if device.type == "cuda" or way != "flex" else None
                # whatever a compiler or a kernel refuses
                except Exception as error:
                    found[f"{way}_fails"] = (str(error).splitlines() or [type(error).__name__])[0][:120]
                    continue
                works[way] = run
                found[f"{way}_peak_mb"] = None if peak is None else round(peak / 1e6, 1)
                found[f"{way}_off"] = float((got - expected).float().norm() / expected.float().norm())
            rounds = rounds_of(lambda: {way: seconds(run, images) for way, run in works.items()}, repeats)
    except MedcorePruneError as error:
        return {"left_out": str(error)}
    for way in works:
        found[f"{way}_ms"] = median_ms(rounds, way)
        found[f"{way}_to_mask"] = median_ratio(rounds, way, "mask")
    return found


def _peak_bytes(run: Callable[[], Tensor], device: torch.device) -> int:
    """Most bytes beyond what was there before."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        run()
        return int(torch.cuda.max_memory_allocated(device) - before)
    with measured() as cost:
        run()
    return cost.peak_bytes


def _run(model: nn.Module, images: Tensor, way: str) -> Tensor:
    with attending(model, way):
        out: Tensor = encoder_of(model)(images)
    return out


if __name__ == "__main__":
    command()
