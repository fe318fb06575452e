"""What each way of quantising an encoder costs and gives (`python -m ...benchmarks.speed.int8`), float beside it.

Encoders under ONNX Runtime take turns in one run: as exported, and quantised by every recipe in `RECIPES`. The time of
a pass as a ratio to float within a round, the root mean square of the difference to float's output, and the file; of
models with trained weights (`pocket`, `lite_medsam`) also Dice, Boundary F1 and HD95 minus float's, unless a recipe is
refused: its sums overflow on this processor, or its embeddings are too far from float's. `lite_medsam` has convolutions
in its first stage and between stages.
"""

import statistics
import tempfile
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import click
import numpy as np

from ...checkpoints.onnx.export import export_onnx
from ...checkpoints.onnx.extra import require_onnx
from ...checkpoints.onnx.int8 import (
    METRICS,
    Int8Recipe,
    TooFarError,
    adds_right,
    quantise_layers,
    quantise_onnx,
    saturates,
)
from ...checkpoints.onnx.model import open_session
from ...commands.options import data_option
from ...commands.work.inputs import ImageOptions, phantom_split, phantoms_tell, read_model
from ...data.folders.reading import Reading
from ...evaluation.latency import interleaved
from ...models.families import build_model, geometry_of
from ...zoo import WORDS, is_word
from .timed import Run, recorded, seconds

FLOAT = "float"
RECIPES: Mapping[str, Int8Recipe] = {
    "linear layers, per channel, 7 bits": Int8Recipe(),
    "8 bits": Int8Recipe(reduce_range=False),
    "one scale a layer": Int8Recipe(per_channel=False),
    "convolutions too": Int8Recipe(convolutions="int8"),
}
"""The default first, then what differs from it in one thing each."""


@click.command()
@click.option("--model", type=click.Choice([*WORDS, "vit_b"]), default="pocket", show_default=True)
@click.option("--image-size", type=int, help="Input side in pixels.  [default: the model's own]")
@click.option("--rounds", type=click.IntRange(1), default=20, show_default=True, help="Rounds; the medians count.")
@data_option()
@click.option("--images", type=click.IntRange(1), default=80, show_default=True, help="Images of each set.")
@recorded
def command(
    model: str,
    image_size: int | None,
    rounds: int,
    data: tuple[str, ...],
    reading: Reading,
    images: int,
    run: Run,
) -> None:
    """Print milliseconds, ratios to float, differences and sizes of every recipe, as JSON."""
    require_onnx()
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        size, contours = _exported(model, image_size, ImageOptions(data, reading=reading), images, place)
        about = {"model": model, "image_size": size, "rounds": rounds, "saturates": saturates()}
        work = partial(measure, place, size, rounds, run.threads, contours)
        run.record("int8", about, lambda: {"recipes": work()}, "onnx", "onnxruntime")


Contours = Callable[[str], Mapping[str, Any]]


def _exported(
    kind: str, image_size: int | None, source: ImageOptions, images: int, place: Path
) -> tuple[int, Contours]:
    """Export to `float.onnx`; gives its input side, and what judges contours where its weights are trained."""
    trained = is_word(kind)
    model = read_model(kind, image_size=image_size) if trained else build_model(kind, image_size=image_size)
    export_onnx(model, place / f"{FLOAT}.onnx", "encoder")
    told = trained and (source.data or phantoms_tell(model))
    # images that the model was trained on tell int8 from float as others do
    judged = source.role("all", [], images) if source.data else phantom_split({"validation": images}).validation

    def contours(recipe: str) -> Mapping[str, Any]:
        if not told or not adds_right(RECIPES[recipe]):
            return {}
        try:
            report = quantise_onnx(
                model, place / f"{FLOAT}.onnx", place / "judged.onnx", recipe=RECIPES[recipe], validation=judged
            )
        except TooFarError:
            return {}
        found = ((name, report.metrics[name]) for name in METRICS)
        return {name: [each.difference, each.low, each.high] for name, each in found}

    return geometry_of(model).image_size, contours


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
    return 1e3 * seconds(lambda: session.run(None, given))


def _rms(values: np.ndarray[Any, Any]) -> float:
    return float(np.sqrt(np.square(values).mean()))


if __name__ == "__main__":
    command()
