"""The images of a correction in batches, and how much each of their tokens counts.

All of it depends on the teacher alone: whoever corrects many models of one teacher finds it once.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import Tensor, nn

from .._support.ahead import ahead
from .._support.devices import pinned_for
from ..data.reading import by_image, in_batches, read_images
from ..data.samples import SampleSet
from ..models.families import blocks_of, geometry_of
from .streams import ADDING_LAYERS
from .token_weights import WEIGHTINGS, TokenWeights


def kept_bytes(teacher: nn.Module, images: int) -> int:
    """Bytes that `CorrectionImages` keeps of images, besides the weights of their tokens."""
    return images * 3 * geometry_of(teacher).image_size ** 2 * next(teacher.parameters()).dtype.itemsize


Read: TypeAlias = tuple[Tensor, Tensor, tuple[int, ...]]
"""Images (N, 3, S, S), in the teacher's number type, all boxes on them (B, 4), and the image of each box."""


@dataclass(frozen=True)
class Batch:
    """Images of one data set: their samples' positions in it (`read`) and their own among all images (`rows`).

    `share` is the weight of each token of a sample, so that all of a data set's sum to 1 / (number of data sets).
    """

    dataset: str
    read: Sequence[Sequence[int]]
    rows: slice
    share: float


class CorrectionImages:
    """Images by data set, in the teacher's size, read a batch at a time, and one ahead.

    Samples that show one image are one image here, whose tokens weigh as much as those of all its samples. The weights
    of tokens are kept where the teacher is, 4 bytes a token and layer; with `keep` also the images, in the memory of
    the machine.
    """

    def __init__(
        self, teacher: nn.Module, drawn: Mapping[str, SampleSet], weighting: str, batch_size: int, keep: bool = False
    ) -> None:
        self._teacher, self._drawn, self._weighting = teacher, drawn, weighting
        self._image_tokens = blocks_of(teacher)[0].tokens_side ** 2
        self._weights: dict[int, TokenWeights] = {}
        self._keep = keep
        self._read: dict[int, Read] = {}
        self.counts = {name: len(samples) for name, samples in drawn.items()}
        """Samples by data set."""
        self._of_set = {name: by_image(samples, read=True) for name, samples in drawn.items()}
        self.samples_of = [len(image) for images in self._of_set.values() for image in images]
        """How many samples each image has, in order."""
        self.batches = self._in_batches(batch_size)

    def __len__(self) -> int:
        """Number of images."""
        return len(self.samples_of)

    @property
    def groups(self) -> list[tuple[str, str]]:
        """Data set and group of every image, in order: what must stay together when images are held out."""
        groups = {name: samples.groups for name, samples in self._drawn.items()}
        return [(name, groups[name][image[0]]) for name, images in self._of_set.items() for image in images]

    def read(self, batches: Iterable[Batch]) -> Iterator[tuple[Batch, Read]]:
        """Yield batches with their images and boxes on the teacher's device; the next ones are read meanwhile."""
        device = next(self._teacher.parameters()).device
        for batch, (images, boxes, owner) in ahead((batch, self._on_cpu(batch)) for batch in batches):
            yield batch, (images.to(device, non_blocking=True), boxes.to(device, non_blocking=True), owner)

    def _on_cpu(self, batch: Batch) -> Read:
        parameter = next(self._teacher.parameters())
        found = self._read.get(batch.rows.start)
        if found is None:
            read = read_images(self._drawn[batch.dataset], batch.read, geometry_of(self._teacher).frame)
            found = read.images.to(parameter.dtype), read.boxes, read.owner
        if self._keep:
            self._read[batch.rows.start] = found
        images, boxes, owner = found
        return pinned_for(images, parameter.device), pinned_for(boxes, parameter.device), owner

    def weigh(self, batch: Batch, images: Tensor, boxes: Tensor, owner: Sequence[int]) -> None:
        """Find the weights of a batch's tokens, if they are not known yet: those of all boxes on an image, summed."""
        if batch.rows.start in self._weights:
            return
        found = dict(WEIGHTINGS[self._weighting](self._teacher, images, boxes, owner))
        if len(boxes) > len(images):
            for block in blocks_of(self._teacher):
                alike = torch.ones(len(boxes), block.tokens_side, block.tokens_side, device=images.device)
                for role in ADDING_LAYERS:
                    name = block.layer_names[role]
                    each = found.get(name, alike)
                    summed = torch.zeros(len(images), *alike.shape[1:], device=each.device, dtype=each.dtype)
                    found[name] = summed.index_add_(0, torch.tensor(owner, device=each.device), each)
        self._weights[batch.rows.start] = found

    def weights(self, batch: Batch) -> TokenWeights:
        """Return the weights of a batch that `weigh` has seen."""
        return self._weights[batch.rows.start]

    def token_weights(self, layer_name: str) -> Tensor | None:
        """Return the weights of all images' tokens at one of the teacher's layers, (N, h, w), None for all alike."""
        found = [self.weights(batch).get(layer_name) for batch in self.batches]
        known = [value for value in found if value is not None]
        return torch.cat(known) if known else None

    def _in_batches(self, batch_size: int) -> tuple[Batch, ...]:
        batches: list[Batch] = []
        offset = 0
        for name, count in self.counts.items():
            share = 1.0 / (len(self.counts) * count * self._image_tokens)
            for read in in_batches(self._of_set[name], batch_size):
                batches.append(Batch(name, read, slice(offset, offset + len(read)), share))
                offset += len(read)
        return tuple(batches)
