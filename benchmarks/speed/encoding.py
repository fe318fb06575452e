"""Time of an evaluation that encodes an image once, beside one that does for every box: `python -m ...speed.encoding`.

The same boxes on the same images through the same model, in turn, in one run. The ratio is what counts: both share the
machine and its load. Of a model with a stem also what an evaluation takes when another model's has left the stem's
tokens.
"""

from functools import partial
from typing import Any

import click
import numpy as np
import torch
from torch import nn

from ...data.frame import Frame
from ...data.samples import ArraySet, SampleSet, arrays
from ...evaluation.evaluate import low_res_of
from ...evaluation.images import EvaluationSet
from ...models.families import build_model, geometry_of
from ...models.protocol import batch_of, low_res_logits
from ...models.tiny_vit.stems import kept_stems
from .timed import REPEATS, SHAPE, Run, median_ms, ratios, recorded, rounds_of, seconds

BOXES = 5
MODEL = click.Choice([*SHAPE.choices, "lite_medsam"])


@click.command()
@click.option("--model", type=MODEL, default="pocket", show_default=True, help="Random weights.")
@click.option("--images", type=click.IntRange(1), default=1, show_default=True)
@click.option("--boxes", type=click.IntRange(1), default=BOXES, show_default=True, help="On each image.")
@REPEATS
@recorded
def command(model: str, images: int, boxes: int, repeats: int, run: Run) -> None:
    """Print milliseconds of both ways, and their ratio, as JSON."""
    sam = build_model(model, run.device)
    about = {"model": model, "image_size": geometry_of(sam).image_size, "repeats": repeats}
    run.record("encoding", about, lambda: measure(sam, images, boxes, repeats))


def measure(model: nn.Module, images: int = 1, boxes: int = BOXES, repeats: int = 7) -> dict[str, Any]:
    """Time both ways in turn, reading of images included.

    `once_ms`, `per_box_ms`, `per_box_over_once`, and `largest_difference` of logits, relative to the largest; of a
    model with a stem `stem_kept_ms` and `once_over_stem_kept`.
    """
    model.eval()
    samples, frame = _samples(images, boxes), geometry_of(model).frame
    ways = {"once": partial(_once, model, samples, frame), "per_box": partial(_per_box, model, samples, frame)}
    pairs, first = [("per_box", "once")], next(model.parameters())
    once, per_box = (way() for way in ways.values())

    def taken() -> dict[str, float]:
        found = {name: seconds(way, first) for name, way in ways.items()}
        with kept_stems() as stems:
            ways["once"]()
            if stems.held_bytes:
                found["stem_kept"] = seconds(ways["once"], first)
        return found

    rounds = rounds_of(taken, repeats)
    pairs += [("once", "stem_kept")] if "stem_kept" in rounds[0] else []
    return {
        "images": images,
        "boxes_an_image": boxes,
        **{f"{name}_ms": median_ms(rounds, name) for name in rounds[0]},
        **ratios(rounds, *pairs),
        "largest_difference": float(f"{float((once - per_box).abs().max() / per_box.abs().max()):.1e}"),
    }


def _once(model: nn.Module, samples: SampleSet, frame: Frame) -> torch.Tensor:
    return low_res_of(model, EvaluationSet(samples, frame, kept_bytes=0))


@torch.no_grad()
def _per_box(model: nn.Module, samples: SampleSet, frame: Frame) -> torch.Tensor:
    device = next(model.parameters()).device
    pairs = ([(sample.image, sample.box)] for sample in samples)
    return torch.cat([low_res_logits(model, *batch_of(pair, frame, device)) for pair in pairs])


def _samples(images: int, boxes: int) -> ArraySet:
    """Images of noise with squares of different places; the time does not depend on what they show."""
    generator = np.random.default_rng(0)
    pictures = [generator.integers(0, 255, (256, 256, 3), dtype=np.uint8) for _ in range(images)]
    masks = np.zeros((boxes, 256, 256), dtype=bool)
    for number, mask in enumerate(masks):
        place = 128 * number // boxes
        mask[place : place + 100, place : place + 100] = True
    return arrays("squares", [each for each in pictures for _ in masks], [mask for _ in pictures for mask in masks])


if __name__ == "__main__":
    command()
