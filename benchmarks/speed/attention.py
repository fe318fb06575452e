"""Time and memory of fused attention beside segment-anything's (`python -m ...benchmarks.speed.attention`).

Forward pass of the encoder, and forward and backward with the gradients of all its parameters, with the same random
weights, in turn, in one run; where `transformers` is installed also through its `SamModel` with PyTorch's fused
attention. The ratios are what counts: all share the machine and its load. The pocket model runs at its own size, the
others at the size that is asked for.
"""

import tempfile
from collections.abc import Callable, Mapping
from functools import partial
from importlib.util import find_spec
from typing import Any

import click
import torch
from torch import Tensor, nn

from ...checkpoints.transformers_folder import save_transformers
from ...evaluation.memory import measured
from ...models.families import encoder_of, geometry_of
from ...models.segment_anything import build_sam
from ...models.switches import set_attention
from .timed import REPEATS, SHAPE, Round, Run, median_ms, ratios, recorded, rounds_of, seconds

KINDS = ("segment-anything", "sdpa")
TRANSFORMERS = "transformers"


@click.command()
@click.option("--model", "models", type=SHAPE, multiple=True, default=("pocket", "vit_b"))
@click.option("--image-size", type=int, default=512, show_default=True, help="Input side; pocket has its own.")
@REPEATS
@recorded
def command(models: tuple[str, ...], image_size: int, repeats: int, run: Run) -> None:
    """Print milliseconds and peak bytes an image of each kind of attention, and their ratios, as JSON."""

    def each() -> dict[str, Any]:
        sizes = {name: None if name == "pocket" else image_size for name in models}
        return {name: measure(build_sam(name, run.device, image_size=size), repeats) for name, size in sizes.items()}

    run.record("attention", {"repeats": repeats}, lambda: {"models": each()}, TRANSFORMERS)


def measure(model: nn.Module, repeats: int = 7) -> dict[str, Any]:
    """Time each kind of attention, in turn; the model ends with segment-anything's.

    For each way in `WAYS`: `<way>_<kind>_ms` and `<way>_<kind>_peak_mb`, and `<way>_<kind>_over_segment-anything`, with
    the lowest and highest, and `<way>_<kind>_memory_ratio`; `image_size`; and `left_out`, a kind to why it is.
    """
    size, device = geometry_of(model).image_size, next(model.parameters()).device
    images = torch.rand((1, 3, size, size), generator=torch.Generator().manual_seed(0)).to(device)
    first = KINDS[0]
    result: dict[str, Any] = {"image_size": size, "left_out": {}}
    encoders = {kind: encoder_of(model) for kind in KINDS}
    if find_spec(TRANSFORMERS):
        encoders[TRANSFORMERS] = transformers_encoder(model)
    else:
        result["left_out"] = {TRANSFORMERS: "not installed"}
    for name, way in WAYS.items():
        runs = {kind: partial(_run, way, encoder, images, kind) for kind, encoder in encoders.items()}
        rounds = rounds_of(partial(_round, runs, images), repeats)
        peaks = {kind: _peak(run) for kind, run in runs.items()}
        for kind in encoders:
            result[f"{name}_{kind}_ms"] = median_ms(rounds, kind)
            result[f"{name}_{kind}_peak_mb"] = round(peaks[kind] / 1e6, 1)
        for kind in list(encoders)[1:]:
            result |= {f"{name}_{key}": value for key, value in ratios(rounds, (kind, first)).items()}
            result[f"{name}_{kind}_memory_ratio"] = round(peaks[kind] / peaks[first], 3)
    set_attention(model, first)
    return result


class TransformersEncoder(nn.Module):
    """The encoder of a `SamModel`, which gives its embedding alone."""

    def __init__(self, encoder: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, images: Tensor) -> Tensor:
        """Embed (B, 3, S, S) images."""
        embedding: Tensor = self.encoder(images)[0]
        return embedding


def transformers_encoder(model: nn.Module) -> nn.Module:
    """The encoder of a whole `Sam` as `transformers` has it, with the same weights and PyTorch's fused attention."""
    with tempfile.TemporaryDirectory() as folder:
        save_transformers(model, folder)
        from transformers import SamModel

        read = SamModel.from_pretrained(folder, attn_implementation="sdpa")
    return TransformersEncoder(read.vision_encoder.eval().to(next(model.parameters()).device))


def _forward(encoder: nn.Module, images: torch.Tensor) -> None:
    with torch.no_grad():
        encoder(images)


def _forward_backward(encoder: nn.Module, images: torch.Tensor) -> None:
    encoder(images).square().sum().backward()
    encoder.zero_grad(set_to_none=True)


Way = Callable[[nn.Module, torch.Tensor], None]
WAYS: dict[str, Way] = {"forward": _forward, "forward_backward": _forward_backward}


def _run(way: Way, encoder: nn.Module, images: torch.Tensor, kind: str) -> None:
    if kind in KINDS:
        set_attention(encoder, kind)
    way(encoder, images)


def _round(runs: Mapping[str, Callable[[], object]], images: torch.Tensor) -> Round:
    return {kind: seconds(run, images) for kind, run in runs.items()}


def _peak(run: Callable[[], object]) -> int:
    with measured() as cost:
        run()
    return cost.peak_bytes


if __name__ == "__main__":
    command()
