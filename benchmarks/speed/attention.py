"""Time and memory of fused attention beside segment-anything's (`python -m ...benchmarks.speed.attention`).

Forward pass of the encoder, and forward and backward with the gradients of all its parameters, on models of the same
random weights, in turn, in one run. The ratios are what counts: all share the machine and its load. The pocket model
runs at its own size, the others at the size that is asked for.
"""

import json
import platform
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import click
import torch
from torch import nn

from ..._support.files import write_json_atomic
from ...evaluation.memory import measured
from ...models.families import encoder_of, geometry_of
from ...models.segment_anything import build_sam
from ...models.switches import set_attention
from .timed import REPEATS, SHAPE, median_ms, median_ratio, rounds_of, seconds

KINDS = ("segment-anything", "sdpa")


@click.command()
@click.option("--model", "models", type=SHAPE, multiple=True, default=("pocket", "vit_b"))
@click.option("--image-size", type=int, default=512, show_default=True, help="Input side; pocket has its own.")
@REPEATS
@click.option("--device", default="cpu", show_default=True)
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), help="A JSON file to write.")
def command(models: tuple[str, ...], image_size: int, repeats: int, device: str, out: Path | None) -> None:
    """Print milliseconds and peak bytes an image of both kinds of attention, and their ratios, as JSON."""
    result: dict[str, Any] = {
        "device": device,
        "machine": platform.machine(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "repeats": repeats,
        "models": {},
    }
    for name in models:
        model = build_sam(name, device, image_size=None if name == "pocket" else image_size)
        result["models"][name] = measure(model, repeats)
    if out is not None:
        write_json_atomic(out, result)
    click.echo(json.dumps(result, indent=1))


def measure(model: nn.Module, repeats: int = 7) -> dict[str, float]:
    """Time both kinds of attention, in turn; the model ends with segment-anything's.

    For each way in `WAYS`: `<way>_<kind>_ms` and `<way>_<kind>_peak_mb`, and `<way>_time_ratio` and
    `<way>_memory_ratio`, fused over segment-anything's; and `image_size`.
    """
    size, device = geometry_of(model).image_size, next(model.parameters()).device
    images = torch.rand((1, 3, size, size), generator=torch.Generator().manual_seed(0)).to(device)
    encoder = encoder_of(model)
    result: dict[str, float] = {"image_size": size}
    for name, way in WAYS.items():
        rounds = rounds_of(partial(_round, way, encoder, images), repeats)
        peaks = {kind: _peak(way, encoder, images, kind) for kind in KINDS}
        for kind in KINDS:
            result[f"{name}_{kind}_ms"] = median_ms(rounds, kind)
            result[f"{name}_{kind}_peak_mb"] = round(peaks[kind] / 1e6, 1)
        ours, theirs = reversed(KINDS)
        result[f"{name}_time_ratio"] = median_ratio(rounds, ours, theirs)
        result[f"{name}_memory_ratio"] = round(peaks[ours] / peaks[theirs], 3)
    set_attention(model, KINDS[0])
    return result


def _forward(encoder: nn.Module, images: torch.Tensor) -> None:
    with torch.no_grad():
        encoder(images)


def _forward_backward(encoder: nn.Module, images: torch.Tensor) -> None:
    encoder(images).square().sum().backward()
    encoder.zero_grad(set_to_none=True)


Way = Callable[[nn.Module, torch.Tensor], None]
WAYS: dict[str, Way] = {"forward": _forward, "forward_backward": _forward_backward}


def _round(way: Way, encoder: nn.Module, images: torch.Tensor) -> dict[str, float]:
    return {kind: _seconds(way, encoder, images, kind) for kind in KINDS}


def _seconds(way: Way, encoder: nn.Module, images: torch.Tensor, kind: str) -> float:
    set_attention(encoder, kind)
    return seconds(lambda: way(encoder, images), images)


def _peak(way: Way, encoder: nn.Module, images: torch.Tensor, kind: str) -> int:
    set_attention(encoder, kind)
    with measured() as cost:
        way(encoder, images)
    return cost.peak_bytes


if __name__ == "__main__":
    command()
