"""Samples that show one image, read together: the image is read and brought into the model's input once."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

import torch
from torch import Tensor

from .._support.errors import DataError
from .frame import Frame
from .samples import Sample, SampleSet, image_hash, image_keys


def by_image(samples: SampleSet, read: bool = False) -> list[list[int]]:
    """Positions of the samples that show one image, image by image, in the order of the images' first samples.

    As far as `image_keys` tells. Of a set that does not know, each sample is taken for an image of its own, unless it
    is to be `read` through.
    """
    keys = image_keys(samples)
    if keys is None:
        keys = [image_hash(sample.image) for sample in samples] if read else [str(n) for n in range(len(samples))]
    found: dict[str, list[int]] = {}
    for position, key in enumerate(keys):
        found.setdefault(key, []).append(position)
    return list(found.values())


def in_batches(images: Sequence[Sequence[int]], batch_size: int, alike: bool = False) -> Iterator[list[Sequence[int]]]:
    """Cut what `by_image` found into batches of so many images; with `alike`, of as many samples an image each."""
    for _, group in groupby(images, key=len if alike else lambda _: 0):
        same = list(group)
        yield from (same[start : start + batch_size] for start in range(0, len(same), batch_size))


@dataclass(frozen=True)
class ReadImages:
    """Some images with all their samples, image by image.

    Attributes:
        images: (N, 3, S, S) float32 in [0, 1].
        boxes: (B, 4) in input pixels.
        owner: The image of each box, its place among the N.
        samples: The B samples.
    """

    images: Tensor
    boxes: Tensor
    owner: tuple[int, ...]
    samples: tuple[Sample, ...]


def read_images(samples: SampleSet, images: Sequence[Sequence[int]], frame: Frame, merge: bool = False) -> ReadImages:
    """Read images, each with the positions of its samples; with `merge`, those of equal pixels are one.

    Raises:
        DataError: Samples that should show one image do not, as where a file was replaced.
    """
    inputs: list[Tensor] = []
    boxes: list[Tensor] = []
    owner: list[int] = []
    found: list[Sample] = []
    known: dict[str, int] = {}
    for positions in images:
        place, first = len(inputs), ""
        for position in positions:
            sample = samples[position]
            digest = image_hash(sample.image) if merge or len(positions) > 1 else ""
            if position == positions[0]:
                place, first = known.setdefault(digest, place) if merge else place, digest
            elif digest != first:
                raise replaced(samples, sample)
            if place == len(inputs):
                inputs.append(frame.image(sample.image))
            boxes.append(frame.box(sample.box, sample.image.shape[:2]))
            owner.append(place)
            found.append(sample)
    return ReadImages(torch.stack(inputs), torch.stack(boxes), tuple(owner), tuple(found))


def replaced(samples: SampleSet, sample: Sample) -> DataError:
    """Say that a sample's image is not the one that was read before."""
    return DataError(
        f"{samples.name}/{sample.name}: its image is another one than a moment ago: leave the images as they are while "
        "they are read, and start again"
    )
