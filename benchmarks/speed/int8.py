"""What each way of quantising an encoder costs and gives (`python -m ...benchmarks.speed.int8`), float beside it.

Encoders under ONNX Runtime take turns in one run: as exported, and quantised by every recipe in `RECIPES`. The time of
a pass as a ratio to float within a round, the root mean square of the difference to float's output, and the file; of
the built-in model also Dice, Boundary F1 and HD95 on drawn validation images. `tiny_vit_5m_224` is
timm's, of random weights, with convolutions in its first stage and between stages; other models are this package's.
"""

import json
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
from torch import nn

from ... import compat  # noqa: F401  # before timm, which imports torchvision
from ..._support.files import write_json_atomic
from ...checkpoints.int8 import METRICS, Int8Recipe, quantise_layers, quantise_onnx
from ...checkpoints.onnx import export_onnx, require_onnx, versions
from ...checkpoints.onnx_model import open_session
from ...commands.work.inputs import phantom_split, phantoms_tell
from ...evaluation.latency import interleaved
from ...models.families import build_model, geometry_of
from ...models.sam_shape import SHAPES
from ...zoo import pocket
from .latency import machine

FLOAT = "float"
RECIPES: Mapping[str, Int8Recipe] = {
    "linear layers, per channel, 7 bits": Int8Recipe(),
    "8 bits": Int8Recipe(reduce_range=False),
    "one scale a layer": Int8Recipe(per_channel=False),
    "convolutions too": Int8Recipe(convolutions="int8"),
}
"""The default first, then what differs from it in one thing each."""
_TIMM = "tiny_vit_5m_224"


@click.command()
@click.option("--model", type=click.Choice([*SHAPES, _TIMM]), default="pocket", show_default=True)
@click.option("--image-size", type=int, help="Input side in pixels.  [default: the model's own]")
@click.option("--rounds", type=click.IntRange(1), default=20, show_default=True, help="Rounds; the medians count.")
@click.option("--images", type=click.IntRange(1), default=80, show_default=True, help="Drawn images of each set.")
@click.option("--threads", type=click.IntRange(1), default=1, show_default=True)
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), help="A JSON file to write.")
def command(model: str, image_size: int | None, rounds: int, images: int, threads: int, out: Path | None) -> None:
    """Print milliseconds, ratios to float, differences and sizes of every recipe, as JSON."""
    require_onnx()
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        size, contours = _timm(place) if model == _TIMM else _own(model, image_size, images, place)
        result = {
            "model": model,
            "image_size": size,
            "threads": threads,
            "rounds": rounds,
            "machine": machine(),
            "versions": versions(),
            "recipes": measure(place, size, rounds, threads, contours),
        }
    if out is not None:
        write_json_atomic(out, result)
    click.echo(json.dumps(result, indent=1))


Contours = Callable[[str], Mapping[str, Any]]


def _own(kind: str, image_size: int | None, images: int, place: Path) -> tuple[int, Contours]:
    """Export a model of this package; of the built-in one contours are judged."""
    model = pocket("adapted", "cpu", image_size) if kind == "pocket" else build_model(kind, image_size=image_size)
    export_onnx(model, place / f"{FLOAT}.onnx", "encoder")
    validation = phantom_split({"validation": images}).validation if phantoms_tell(model) else {}

    def contours(recipe: str) -> Mapping[str, Any]:
        if not validation:
            return {}
        report = quantise_onnx(
            model, place / f"{FLOAT}.onnx", place / "judged.onnx", recipe=RECIPES[recipe], validation=validation
        )
        found = ((name, report.metrics[name]) for name in METRICS)
        return {name: [each.difference, each.low, each.high] for name, each in found}

    return geometry_of(model).image_size, contours


def _timm(place: Path) -> tuple[int, Contours]:
    import timm

    size = 224
    model: nn.Module = timm.create_model(_TIMM, num_classes=0).eval()
    names: dict[str, Any] = {"input_names": ["image"], "output_names": ["embedding"], "opset_version": 17}
    with warnings.catch_warnings():
        # of the older exporter, and of shapes that become constants
        warnings.simplefilter("ignore")
        torch.onnx.export(model, (torch.rand(1, 3, size, size),), str(place / f"{FLOAT}.onnx"), dynamo=False, **names)
    return size, lambda _: {}


def measure(place: Path, size: int, rounds: int, threads: int, contours: Contours) -> dict[str, Any]:
    """Quantise `float.onnx` in a folder by every recipe, and time all, in turn, on one image of noise."""
    layers = {}
    for name, recipe in RECIPES.items():
        layers[name] = quantise_layers(place / f"{FLOAT}.onnx", place / f"{name}.onnx", recipe)
    given = {"image": np.random.default_rng(0).random((1, 3, size, size), dtype=np.float32)}
    sessions = {name: open_session(place / f"{name}.onnx", threads) for name in (FLOAT, *RECIPES)}
    outputs = {name: session.run(None, given)[0].astype(np.float64) for name, session in sessions.items()}
    times = interleaved({name: partial(_timed_ms, session, given) for name, session in sessions.items()}, rounds)
    return {
        name: {
            "linears": layers.get(name, (0, 0))[0],
            "convolutions": layers.get(name, (0, 0))[1],
            "median_ms": round(statistics.median(found), 2),
            "time_ratio": round(statistics.median(a / b for a, b in zip(found, times[FLOAT], strict=True)), 3),
            "relative_rms": round(float(_rms(outputs[name] - outputs[FLOAT]) / _rms(outputs[FLOAT])), 4),
            "file_mb": round((place / f"{name}.onnx").stat().st_size / 1e6, 2),
            "differences": {} if name == FLOAT else contours(name),
        }
        for name, found in times.items()
    }


def _timed_ms(session: Any, given: Mapping[str, Any]) -> float:
    start = time.perf_counter()
    session.run(None, given)
    return 1e3 * (time.perf_counter() - start)


def _rms(values: np.ndarray[Any, Any]) -> float:
    return float(np.sqrt(np.square(values).mean()))


if __name__ == "__main__":
    command()
