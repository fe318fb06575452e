"""A batch of a training: images, with the boxes and masks of some of the objects on each."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import accumulate

import torch
from torch import Tensor

from ..._support.devices import pinned_for
from ..._support.errors import DataError


@dataclass(frozen=True)
class Batch:
    """Model inputs and targets: images, and boxes and masks of objects on them, image by image.

    Images (N, 3, S, S) float32 in [0, 1]; boxes (B, 4) in input pixels; masks (B, 1, S, S) float32 in [0, 1], values
    between being partly covered pixels; `counts` how many of the B each image has, at least one, by default the same.
    """

    images: Tensor
    boxes: Tensor
    masks: Tensor
    counts: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        count = len(self.images)
        counts = self.counts or (len(self.boxes) // count,) * count
        object.__setattr__(self, "counts", counts)
        if len(counts) != count or min(counts) < 1 or sum(counts) != len(self.boxes):
            raise DataError(f"{len(self.boxes)} boxes on {count} images: expected at least one on each, got {counts}")

    @property
    def owner(self) -> tuple[int, ...]:
        """The image of each box, its place among the N."""
        return tuple(place for place, count in enumerate(self.counts) for _ in range(count))

    def mean(self, values: Tensor) -> Tensor:
        """Mean over images of the mean over each one's objects, of a value for each box (B,), or each image (N,)."""
        if len(values) == len(self.images) or len(set(self.counts)) == 1:
            return values.mean()
        return torch.stack([each.mean() for each in values.split(self.counts)]).mean()

    def to(self, device: torch.device | str) -> "Batch":
        """Return the batch on another device; pinned memory is copied without waiting."""
        images, boxes, masks = (each.to(device, non_blocking=True) for each in (self.images, self.boxes, self.masks))
        return Batch(images, boxes, masks, self.counts)

    def pinned_for(self, device: torch.device) -> "Batch":
        """Return the batch in memory that a CUDA device copies from by itself; for others as it is."""
        images, boxes, masks = (pinned_for(each, device) for each in (self.images, self.boxes, self.masks))
        return Batch(images, boxes, masks, self.counts)

    def parts(self, at_a_time: int | None) -> Iterator["Batch"]:
        """Cut it into batches of at most so many images, each with its own boxes and masks; None leaves it whole."""
        step, ends = at_a_time or len(self.images), [0, *accumulate(self.counts)]
        for start in range(0, len(self.images), step):
            images, counts = self.images[start : start + step], self.counts[start : start + step]
            rows = slice(ends[start], ends[start + len(counts)])
            yield Batch(images, self.boxes[rows], self.masks[rows], counts)
