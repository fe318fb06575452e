"""Random changes of training images: moved, turned, flipped and coloured, with their masks."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

_LOST_BELOW_PX = 4


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
class Draws:
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


def warp(
    stack: Tensor,
    size: int,
    augment: Augmentation | None = None,
    draws: Draws | None = None,
    need_all: bool = False,
) -> Tensor:
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
    # a mask that would leave the image is a useless prompt: an image that loses all, or one it needs, is only flipped
    for _ in range(2):
        grid = F.affine_grid(torch.cat([turn, shift], dim=2), [count, stack.shape[1], size, size], align_corners=False)
        warped = F.grid_sample(stack, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
        large = is_large(warped)
        lost = ~(large.all(1) if need_all else large.any(1))
        if not bool(lost.any()):
            break
        turn[lost], shift[lost] = torch.diag_embed(flips[lost]), 0.0
    return warped


def _flipped(stack: Tensor, draws: Draws) -> Tensor:
    """Flip along either axis and transpose, each in half of the images."""
    for change in (lambda part: part.flip(-1), lambda part: part.flip(-2), lambda part: part.transpose(-1, -2)):
        chosen = draws.shares() < 0.5
        stack = torch.where(chosen[:, None, None, None], change(stack), stack)
    return stack


def recolour(images: Tensor, augment: Augmentation | None = None, draws: Draws | None = None) -> Tensor:
    if augment is not None and draws is not None:
        gains = draws.uniform((3, 1, 1), 1 - augment.gain, 1 + augment.gain)
        gammas = torch.exp(draws.uniform((1, 1, 1), -1, 1) * float(np.log(augment.gamma)))
        images = (images.clamp(min=1e-4) ** gammas * gains).clamp(0, 1)
    low = images.amin((1, 2, 3), keepdim=True)
    high = images.amax((1, 2, 3), keepdim=True)
    return (images - low) / (high - low).clamp(min=1e-8)


def is_large(stack: Tensor) -> Tensor:
    """Which masks of a stack are not lost, (N, width) bool."""
    return (stack[:, 3:] > 0.5).flatten(2).sum(2) >= _LOST_BELOW_PX
