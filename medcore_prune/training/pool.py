"""A training pool: images and masks as bytes, from which augmented batches are drawn.

A batch depends on the pool, the seed and the step alone, so a resumed training sees what an uninterrupted one would.
"""

import hashlib
import math
import zlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from .._support.errors import DataError
from ..data.frame import Frame
from ..data.reading import by_image, replaced
from ..data.samples import SampleSet, image_hash
from .batches.augmentation import Augmentation, Draws, is_large, recolour, warp
from .batches.batch import Batch

# MedSAM moves box corners outward by up to 20 of 1024 pixels when training
BOX_JITTER_FRACTION = 20 / 1024
POOL_BYTES = 4_000_000_000
"""Most bytes of images and masks that a pool of data sets keeps: 530 images for a model of 1024 pixels."""
OBJECTS_AN_IMAGE = 8
"""Most objects of a drawn image that are trained on behind one pass of the encoder, each by a pass of the decoder."""


@dataclass(frozen=True)
class Scene:
    """One image of a pool, (3, P, P) uint8, its masks (m, P, P) uint8, 255 inside, and its own (H, W)."""

    image: Tensor
    masks: Tensor
    shape: tuple[int, int]

    @classmethod
    def of(cls, image: np.ndarray, masks: Sequence[np.ndarray], size: int) -> "Scene":
        """Stretch an image uint8 (H, W, 3) and its masks bool (H, W) to a square of `size` pixels."""
        pixels = _square(torch.tensor(image).permute(2, 0, 1).float(), size)
        held = torch.cat([_square_mask(mask, size) for mask in masks])
        return cls(pixels, held, (int(image.shape[0]), int(image.shape[1])))

    def only(self, objects: Sequence[int]) -> "Scene":
        """Return the image with some of its masks, by their places."""
        return Scene(self.image, self.masks[list(objects)], self.shape)


class Pool:
    """Images stretched to one size, with one or more masks each, read when they are drawn.

    They are kept as bytes as long as they fit into `kept_bytes`; the others are read again each time.

    Args:
        masks: How many masks each image has, at least one.
        read: Gives the scene of an image by its number, with the masks at some places alone, the same ones each time.
        kept_bytes: None keeps all.
        names: What each image's masks are called, for messages; by default the numbers of both.

    Attributes:
        masks: How many masks each image has.
        names: A name for each mask, image by image.
    """

    def __init__(
        self,
        masks: Sequence[int],
        read: Callable[[int, Sequence[int]], Scene],
        kept_bytes: int | None = POOL_BYTES,
        names: Sequence[Sequence[str]] | None = None,
    ) -> None:
        if not masks:
            raise DataError("no images to train on: expected at least one data set")
        if 0 in masks:
            raise DataError(f"image {masks.index(0)} of the pool has no mask")
        self.masks, self._read, self._kept = tuple(masks), read, dict[int, Scene]()
        self.names = names or [[f"{index}#{place}" for place in range(count)] for index, count in enumerate(masks)]
        self._left, self._too_large = math.inf if kept_bytes is None else kept_bytes, set[int]()

    def __len__(self) -> int:
        return len(self.masks)

    def scene(self, index: int) -> Scene:
        """One image with all of its masks, kept or read."""
        if (found := self._kept.get(index)) is not None:
            return found
        made = self._read(index, range(self.masks[index]))
        size = made.image.nbytes + made.masks.nbytes
        if size <= self._left:
            self._left -= size
            self._kept[index] = made
        else:
            self._too_large.add(index)
        return made

    def _some(self, index: int, objects: Sequence[int]) -> Scene:
        """One image with some of its masks; of one that is not kept, the others are not read."""
        if index in self._too_large:
            return self._read(index, objects)
        return self.scene(index).only(objects)

    @property
    def one_each(self) -> bool:
        """Whether no image has more than one mask."""
        return max(self.masks) == 1

    @cached_property
    def hash(self) -> str:
        """SHA-256 (hex) of all images and masks, in order, and of what is whose where an image has several."""
        digest = hashlib.sha256()
        masks = []
        for index in range(len(self)):
            scene = self.scene(index)
            digest.update(scene.image.contiguous().numpy().data)
            # all images come before all masks, which are small when they are compressed
            masks.append(zlib.compress(scene.masks.contiguous().numpy().data, 1))
        for packed in masks:
            digest.update(zlib.decompress(packed))
        digest.update(torch.arange(sum(self.masks)).numpy().data)
        if not self.one_each:
            digest.update(repr(self.masks).encode())
        return digest.hexdigest()

    @classmethod
    def of_scenes(cls, scenes: Iterable[tuple[np.ndarray, Sequence[np.ndarray]]], size: int) -> "Pool":
        """Build a pool from (image uint8 (H, W, 3), masks bool (n, H, W)) pairs, resized to `size` pixels; all kept."""
        made = []
        for number, (image, masks) in enumerate(scenes):
            if not len(masks):
                raise DataError(f"image {number} of the pool has no mask")
            made.append(Scene.of(image, masks, size))
        counts = [len(scene.masks) for scene in made]
        return cls(counts, lambda index, objects: made[index].only(objects), kept_bytes=None)

    @classmethod
    def of_sets(cls, sets: Iterable[SampleSet], size: int, kept_bytes: int = POOL_BYTES) -> "Pool":
        """Build a pool from sample sets, resized to `size` pixels: samples that show one image are one, with all masks.

        As far as `reading.by_image` knows without reading them; samples that should show one image and do not are
        refused (`DataError`) when they are read.
        """
        images = [(samples, positions) for samples in sets if len(samples) for positions in by_image(samples)]
        names = [[f"{samples.name}/{samples.ids[at]}" for at in positions] for samples, positions in images]

        def read(index: int, objects: Sequence[int]) -> Scene:
            samples, positions = images[index]
            return _read_scene(samples, [positions[place] for place in objects], size)

        return cls([len(positions) for _, positions in images], read, kept_bytes, names)

    def batch(
        self,
        step: int,
        *,
        seed: int,
        count: int,
        frame: Frame,
        prompts: int | None = None,
        augment: Augmentation | None = None,
        part: tuple[int, int] = (0, 1),
    ) -> Batch:
        """Draw the batch of a step, which with the seed determines it: `count` images, in a model's `frame`.

        Each comes with up to `OBJECTS_AN_IMAGE` of its masks, all different, and images are drawn through their masks:
        the expected mean over a batch of the means over its images' masks is then the mean over all masks, however
        many each image has. With `prompts` images are equally likely instead, each with so many of its masks, drawn
        with replacement. Every draw of an image is augmented by itself, so that no two share what the encoder sees. A
        mask that an augmentation takes below 4 pixels is left out as long as another of its image stays; where none
        does, or one of `prompts` is lost, the image is only flipped. Of `part`, the place of a slice and in how many
        equal ones the batch is cut, only the images of that slice are read and warped.
        """
        rng = torch.Generator().manual_seed((seed * 1_000_003 + step) % 2**63)
        drawn = self._draw(count, prompts, rng)
        size = count // part[1]
        draws = Draws(rng, count, slice(part[0] * size, (part[0] + 1) * size))
        scenes = [self._some(index, objects) for index, objects in drawn[draws.rows]]
        # of the whole batch, as random numbers are drawn for all of it
        stack = _stack(scenes, max(len(objects) for _, objects in drawn))
        warped = warp(stack, frame.size, augment, draws, need_all=prompts is not None)
        there = _real(scenes, stack.shape[1] - 3)
        if prompts is None and augment is not None and augment.resamples:
            left = there & is_large(warped)
            there = torch.where(left.any(1, keepdim=True), left, there)
        return _batch(warped, there, scenes, frame, augment, draws)

    def _draw(self, count: int, prompts: int | None, rng: torch.Generator) -> list[tuple[int, list[int]]]:
        """Draw images, each with the places of some of its masks, as `batch` says."""
        if prompts is not None:
            chosen = torch.randint(len(self), (count,), generator=rng).tolist()
            return [(at, torch.randint(self.masks[at], (prompts,), generator=rng).tolist()) for at in chosen]
        through = torch.randint(sum(self.masks), (count,), generator=rng)
        chosen = torch.bucketize(through, torch.tensor(self.masks).cumsum(0), right=True).tolist()
        # an image of one mask takes one number, as it does with one prompt: both draw the same of such a pool
        ranks = [torch.rand(self.masks[at], generator=rng).argsort(stable=True) for at in chosen]
        return [(at, rank[:OBJECTS_AN_IMAGE].tolist()) for at, rank in zip(chosen, ranks, strict=True)]

    def in_order(self, start: int, stop: int, frame: Frame, masks: slice = slice(0, 1)) -> Batch:
        """Return images `start` to `stop` as they are, with a slice of the masks of each."""
        scenes = [self._some(index, range(self.masks[index])[masks]) for index in range(start, stop)]
        there = _real(scenes, max(len(scene.masks) for scene in scenes))
        return _batch(warp(_stack(scenes, there.shape[1]), frame.size), there, scenes, frame)


def most_objects(sets: Iterable[SampleSet]) -> int:
    """Return how many objects of an image a batch of a pool of these sets has at most."""
    counts = (len(image) for samples in sets for image in by_image(samples))
    return min(OBJECTS_AN_IMAGE, max(counts, default=1))


def _read_scene(samples: SampleSet, positions: Sequence[int], size: int) -> Scene:
    """Read the image that some samples show, with the mask of each."""
    first = samples[positions[0]]
    digest = image_hash(first.image) if len(positions) > 1 else ""
    # at once, since a set may use the room of one image for the next
    scene = Scene.of(first.image, [first.mask], size)
    rest = list[Tensor]()
    for position in positions[1:]:
        sample = samples[position]
        if image_hash(sample.image) != digest:
            raise replaced(samples, sample)
        rest.append(_square_mask(sample.mask, size))
    return Scene(scene.image, torch.cat([scene.masks, *rest]), scene.shape)


def _stack(scenes: Sequence[Scene], width: int) -> Tensor:
    """Images with their masks behind their colours, (N, 3 + width, P, P) in [0, 1]; fewer masks are repeated."""
    filled = ([place % len(scene.masks) for place in range(width)] for scene in scenes)
    return torch.stack([torch.cat([s.image, s.masks[at]]) for s, at in zip(scenes, filled, strict=True)]).float() / 255


def _real(scenes: Sequence[Scene], width: int) -> Tensor:
    """Which of the masks that `_stack` gives are no repetitions, (N, width) bool."""
    return torch.tensor([[place < len(scene.masks) for place in range(width)] for scene in scenes])


def _batch(
    warped: Tensor,
    there: Tensor,
    scenes: Sequence[Scene],
    frame: Frame,
    augment: Augmentation | None = None,
    draws: Draws | None = None,
) -> Batch:
    """Put images and those masks together that are `there`, (N, width) bool."""
    images = recolour(warped[:, :3].clamp(0, 1), augment, draws)
    images, masks = _placed(images, warped[:, 3:].clamp(0, 1), scenes, frame)
    masks = masks.reshape(-1, 1, frame.size, frame.size)
    boxes, kept = _boxes(masks, draws if augment else None), there.flatten()
    return Batch(images, boxes[kept], masks[kept], tuple(there.sum(1).tolist()))


def _placed(images: Tensor, masks: Tensor, scenes: Sequence[Scene], frame: Frame) -> tuple[Tensor, Tensor]:
    """Put images and masks that fill the square, as warping leaves them, where the frame has them."""
    if not frame.padded:
        return images, masks
    both = [
        torch.stack([frame.place(each, scene.shape) for each, scene in zip(part, scenes, strict=True)])
        for part in (images, masks)
    ]
    return both[0], both[1].clamp(0, 1)


def _square_mask(mask: np.ndarray, size: int) -> Tensor:
    return _square(torch.tensor(mask)[None].float() * 255, size)


def _square(pixels: Tensor, size: int) -> Tensor:
    resized = F.interpolate(pixels[None], (size, size), mode="bilinear", align_corners=False, antialias=True)[0]
    return resized.round().clamp(0, 255).to(torch.uint8)


def _boxes(masks: Tensor, draws: Draws | None) -> Tensor:
    size = masks.shape[-1]
    # the half-covered pixel decides; a mask thinner than a pixel falls back to whatever it touches
    inside = masks[:, 0] > 0.5
    empty = ~inside.flatten(1).any(1)
    inside[empty] = masks[empty, 0] > 0
    index = torch.arange(size, dtype=torch.float32)
    boxes = []
    for axis in (1, 2):
        present = inside.any(axis)
        low = torch.where(present, index, float(size)).amin(1)
        high = torch.where(present, index, -1.0).amax(1)
        boxes += [low, high]
    x0, x1, y0, y1 = boxes
    found = torch.stack([x0, y0, x1, y1], dim=1)
    found[~inside.flatten(1).any(1)] = torch.tensor([0.0, 0.0, size - 1.0, size - 1.0])
    if draws is not None:
        outward = torch.tensor([-1.0, -1.0, 1.0, 1.0]) * BOX_JITTER_FRACTION * size
        shares = draws.shares(len(found) // len(range(draws.count)[draws.rows]), 4).reshape(-1, 4)
        found = (found + shares * outward).clamp(0, size - 1)
    return found
