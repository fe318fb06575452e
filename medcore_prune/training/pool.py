"""A training pool: images and masks as bytes, from which augmented batches are drawn.

A batch depends on the pool, the seed and the step alone, so a resumed training sees what an uninterrupted one would.
"""

import hashlib
import math
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from .._support.errors import DataError
from ..data.frame import Frame
from ..data.samples import SampleSet

# MedSAM moves box corners outward by up to 20 of 1024 pixels when training
BOX_JITTER_FRACTION = 20 / 1024
POOL_BYTES = 4_000_000_000
"""Most bytes of images and masks that a pool of data sets keeps: 530 images for a model of 1024 pixels."""


@dataclass(frozen=True)
class Augmentation:
    """Ranges of the random changes; every range is uniform and zero means none.

    Attributes:
        rotate_degrees: Rotation, plus or minus, on top of a random flip and transposition.
        zoom: Largest factor of enlargement or reduction, 1 for none.
        shift_fraction: Translation, as a fraction of the side.
        gain: Relative change of each colour channel.
        gamma: Largest exponent of the tone curve, 1 for none.
    """

    rotate_degrees: float = 20.0
    zoom: float = 1.25
    shift_fraction: float = 0.05
    gain: float = 0.15
    gamma: float = 1.3

    @property
    def resamples(self) -> bool:
        """Whether pixels move by anything but whole flips."""
        return bool(self.rotate_degrees or self.zoom != 1 or self.shift_fraction)


AUGMENTATIONS: dict[str, Augmentation] = {
    "full": Augmentation(),
    "flips": Augmentation(rotate_degrees=0.0, zoom=1.0, shift_fraction=0.0, gain=0.0, gamma=1.0),
}
"""By the names of `settings.AUGMENTATION_NAMES`; boxes move outward in both."""


@dataclass(frozen=True)
class Batch:
    """Model inputs and targets, with k prompts an image, image by image.

    Images (B, 3, S, S) float32 in [0, 1]; boxes (B * k, 4) in input pixels; masks (B * k, 1, S, S) float32 in [0, 1],
    values between being partly covered pixels.
    """

    images: Tensor
    boxes: Tensor
    masks: Tensor

    def to(self, device: torch.device | str) -> "Batch":
        """Return the batch on another device; pinned memory is copied without waiting."""
        return Batch(*(each.to(device, non_blocking=True) for each in (self.images, self.boxes, self.masks)))

    def pinned_for(self, device: torch.device) -> "Batch":
        """Return the batch in memory that a CUDA device copies from by itself; for others as it is."""
        if device.type != "cuda":
            return self
        return Batch(*(each.pin_memory() for each in (self.images, self.boxes, self.masks)))

    def parts(self, at_a_time: int | None) -> Iterator["Batch"]:
        """Cut it into batches of at most so many images, each with its own boxes and masks; None leaves it whole."""
        count = len(self.images)
        step, prompts = at_a_time or count, len(self.boxes) // count
        for start in range(0, count, step):
            rows = slice(start * prompts, (start + step) * prompts)
            yield Batch(self.images[start : start + step], self.boxes[rows], self.masks[rows])


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
        held = [_square(torch.tensor(mask)[None].float() * 255, size) for mask in masks]
        return cls(pixels, torch.cat(held), (int(image.shape[0]), int(image.shape[1])))


class Pool:
    """Images stretched to one size, with one or more masks each, read when they are drawn.

    They are kept as bytes as long as they fit into `kept_bytes`; the others are read again each time.

    Args:
        masks: How many masks each image has, at least one.
        read: Gives the scene of an image by its number, the same one each time.
        kept_bytes: None keeps all.
    """

    def __init__(self, masks: Sequence[int], read: Callable[[int], Scene], kept_bytes: int | None = POOL_BYTES) -> None:
        if not masks:
            raise DataError("no images to train on: expected at least one data set")
        if 0 in masks:
            raise DataError(f"image {masks.index(0)} of the pool has no mask")
        self._masks, self._read, self._kept = list(masks), read, dict[int, Scene]()
        self._left = math.inf if kept_bytes is None else kept_bytes

    def __len__(self) -> int:
        return len(self._masks)

    def scene(self, index: int) -> Scene:
        """One image with its masks, kept or read."""
        if (found := self._kept.get(index)) is not None:
            return found
        made = self._read(index)
        size = made.image.nbytes + made.masks.nbytes
        if size <= self._left:
            self._left -= size
            self._kept[index] = made
        return made

    @cached_property
    def hash(self) -> str:
        """SHA-256 (hex) of all images and masks, in order."""
        digest = hashlib.sha256()
        masks = []
        for index in range(len(self)):
            scene = self.scene(index)
            digest.update(scene.image.contiguous().numpy().data)
            # all images come before all masks, which are small when they are compressed
            masks.append(zlib.compress(scene.masks.contiguous().numpy().data, 1))
        for packed in masks:
            digest.update(zlib.decompress(packed))
        for part in torch.arange(sum(self._masks)).split(self._masks):
            digest.update(part.numpy().data)
        return digest.hexdigest()

    @classmethod
    def of_scenes(cls, scenes: Iterable[tuple[np.ndarray, Sequence[np.ndarray]]], size: int) -> "Pool":
        """Build a pool from (image uint8 (H, W, 3), masks bool (n, H, W)) pairs, resized to `size` pixels; all kept."""
        made = []
        for number, (image, masks) in enumerate(scenes):
            if not len(masks):
                raise DataError(f"image {number} of the pool has no mask")
            made.append(Scene.of(image, masks, size))
        return cls([len(scene.masks) for scene in made], made.__getitem__, kept_bytes=None)

    @classmethod
    def of_sets(cls, sets: Iterable[SampleSet], size: int, kept_bytes: int = POOL_BYTES) -> "Pool":
        """Build a pool from sample sets, one mask an image, resized to `size` pixels."""
        held = [samples for samples in sets if len(samples)]
        places = [(samples, position) for samples in held for position in range(len(samples))]

        def read(index: int) -> Scene:
            samples, position = places[index]
            sample = samples[position]
            return Scene.of(sample.image, [sample.mask], size)

        return cls([1] * len(places), read, kept_bytes)

    def batch(
        self,
        step: int,
        *,
        seed: int,
        count: int,
        frame: Frame,
        prompts: int = 1,
        augment: Augmentation | None = None,
        part: tuple[int, int] = (0, 1),
    ) -> Batch:
        """Draw the batch of a step, which with the seed determines it: `count` images, in a model's `frame`.

        Each has `prompts` boxes and masks, drawn with replacement from its masks. Every draw is augmented by itself, so
        that no two share what the encoder sees, even of one image. Of `part`, the place of a slice and in how many
        equal ones the batch is cut, only the images of that slice are read and warped.
        """
        rng = torch.Generator().manual_seed((seed * 1_000_003 + step) % 2**63)
        chosen = torch.randint(len(self), (count,), generator=rng).tolist()
        picks = [torch.randint(self._masks[index], (prompts,), generator=rng) for index in chosen]
        size = count // part[1]
        draws = _Draws(rng, count, slice(part[0] * size, (part[0] + 1) * size))
        scenes = [self.scene(index) for index in chosen[draws.rows]]
        stack = _stack([(scene, scene.masks[pick]) for scene, pick in zip(scenes, picks[draws.rows], strict=True)])
        warped = _warp(stack, frame.size, augment, draws)
        images = _recolour(warped[:, :3].clamp(0, 1), augment, draws)
        images, masks = _placed(images, warped[:, 3:].clamp(0, 1), scenes, frame)
        masks = masks.reshape(-1, 1, frame.size, frame.size)
        return Batch(images, _boxes(masks, draws if augment else None), masks)

    def in_order(self, start: int, stop: int, frame: Frame) -> Batch:
        """Return images `start` to `stop` as they are, with the first mask of each."""
        scenes = [self.scene(index) for index in range(start, stop)]
        stack = _warp(_stack([(scene, scene.masks[:1]) for scene in scenes]), frame.size)
        images = _recolour(stack[:, :3].clamp(0, 1))
        images, targets = _placed(images, stack[:, 3:].clamp(0, 1), scenes, frame)
        return Batch(images, _boxes(targets, None), targets)


def _stack(scenes: Sequence[tuple[Scene, Tensor]]) -> Tensor:
    """Images with some of their masks behind their colours, (B, 3 + k, P, P) in [0, 1]."""
    return torch.stack([torch.cat([scene.image, masks]) for scene, masks in scenes]).float() / 255


def _placed(images: Tensor, masks: Tensor, scenes: Sequence[Scene], frame: Frame) -> tuple[Tensor, Tensor]:
    """Put images and masks that fill the square, as warping leaves them, where the frame has them."""
    if not frame.padded:
        return images, masks
    both = [
        torch.stack([frame.place(each, scene.shape) for each, scene in zip(part, scenes, strict=True)])
        for part in (images, masks)
    ]
    return both[0], both[1].clamp(0, 1)


def _square(pixels: Tensor, size: int) -> Tensor:
    resized = F.interpolate(pixels[None], (size, size), mode="bilinear", align_corners=False, antialias=True)[0]
    return resized.round().clamp(0, 255).to(torch.uint8)


@dataclass(frozen=True)
class _Draws:
    """Random numbers for the rows of a batch that are made: those that they have in the whole batch of `count`."""

    rng: torch.Generator
    count: int
    rows: slice

    def uniform(self, shape: Sequence[int], low: float, high: float) -> Tensor:
        return self.shares(*shape) * (high - low) + low

    def shares(self, *shape: int) -> Tensor:
        """A number in [0, 1) for each entry, (rows, *shape)."""
        return torch.rand((self.count, *shape), generator=self.rng)[self.rows]

    def signs(self, *shape: int) -> Tensor:
        return torch.randint(0, 2, (self.count, *shape), generator=self.rng)[self.rows] * 2.0 - 1.0


def _warp(stack: Tensor, size: int, augment: Augmentation | None = None, draws: _Draws | None = None) -> Tensor:
    if augment is None or draws is None or not augment.resamples:
        resized = F.interpolate(stack, (size, size), mode="bilinear", align_corners=False, antialias=True)
        return resized if augment is None or draws is None else _flipped(resized, draws)
    count = len(stack)
    angle = torch.deg2rad(draws.uniform((), -augment.rotate_degrees, augment.rotate_degrees))
    scale = torch.exp(draws.uniform((), -1, 1) * float(np.log(augment.zoom)))
    turn = (
        torch.stack([angle.cos(), -angle.sin(), angle.sin(), angle.cos()], dim=1).view(-1, 2, 2) * scale[:, None, None]
    )
    flips = draws.signs(2)
    turn = turn * flips[:, None, :]
    transposed = draws.shares() < 0.5
    turn[transposed] = turn[transposed].flip(2)
    shift = draws.uniform((2, 1), -2 * augment.shift_fraction, 2 * augment.shift_fraction)
    # a mask that would leave the image is a useless prompt: such an image is only flipped
    for _ in range(2):
        grid = F.affine_grid(torch.cat([turn, shift], dim=2), [count, stack.shape[1], size, size], align_corners=False)
        warped = F.grid_sample(stack, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
        lost = (warped[:, 3:] > 0.5).flatten(2).sum(2).amin(1) < 4
        if not bool(lost.any()):
            break
        turn[lost], shift[lost] = torch.diag_embed(flips[lost]), 0.0
    return warped


def _flipped(stack: Tensor, draws: _Draws) -> Tensor:
    """Flip along either axis and transpose, each in half of the images."""
    for change in (lambda part: part.flip(-1), lambda part: part.flip(-2), lambda part: part.transpose(-1, -2)):
        chosen = draws.shares() < 0.5
        stack = torch.where(chosen[:, None, None, None], change(stack), stack)
    return stack


def _recolour(images: Tensor, augment: Augmentation | None = None, draws: _Draws | None = None) -> Tensor:
    if augment is not None and draws is not None:
        gains = draws.uniform((3, 1, 1), 1 - augment.gain, 1 + augment.gain)
        gammas = torch.exp(draws.uniform((1, 1, 1), -1, 1) * float(np.log(augment.gamma)))
        images = (images.clamp(min=1e-4) ** gammas * gains).clamp(0, 1)
    low = images.amin((1, 2, 3), keepdim=True)
    high = images.amax((1, 2, 3), keepdim=True)
    return (images - low) / (high - low).clamp(min=1e-8)


def _boxes(masks: Tensor, draws: _Draws | None) -> Tensor:
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
