"""Time of an evaluation that encodes an image once, beside one that does for every box: `python -m ...speed.encoding`.

The same boxes on the same images through the same model, in turn, in one run. The ratio is what counts: both share the
machine and its load.
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
from ...models.families import geometry_of
from ...models.protocol import batch_of, low_res_logits
from ...models.segment_anything import build_sam
from .timed import REPEATS, SHAPE, Run, median_ms, ratios, recorded, rounds_of, seconds

BOXES = 5


@click.command()
@click.option("--model", type=SHAPE, default="pocket", show_default=True, help="Random weights.")
@click.option("--images", type=click.IntRange(1), default=1, show_default=True)
@click.option("--boxes", type=click.IntRange(1), default=BOXES, show_default=True, help="On each image.")
@REPEATS
@recorded
def command(model: str, images: int, boxes: int, repeats: int, run: Run) -> None:
    """Print milliseconds of both ways, and their ratio, as JSON."""
    sam = build_sam(model, run.device)
    about = {"model": model, "image_size": geometry_of(sam).image_size, "repeats": repeats}
    run.record("encoding", about, lambda: measure(sam, images, boxes, repeats))


def measure(model: nn.Module, images: int = 1, boxes: int = BOXES, repeats: int = 7) -> dict[str, Any]:
    """Time both ways in turn, reading of images included.

    `once_ms`, `per_box_ms`, `per_box_over_once`, and `largest_difference` of logits, relative to the largest.
    """
    model.eval()
    samples, frame = _samples(images, boxes), geometry_of(model).frame
    ways = {"once": partial(_once, model, samples, frame), "per_box": partial(_per_box, model, samples, frame)}
    first = next(model.parameters())
    rounds = rounds_of(lambda: {name: seconds(way, first) for name, way in ways.items()}, repeats)
    once, per_box = (way() for way in ways.values())
    return {
        "images": images,
        "boxes_an_image": boxes,
        **{f"{name}_ms": median_ms(rounds, name) for name in ways},
        **ratios(rounds, ("per_box", "once")),
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
