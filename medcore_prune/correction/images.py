"""The images of a correction in batches, and how much each of their tokens counts.

All of it depends on the teacher alone: whoever corrects many models of one teacher finds it once.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..data.samples import SampleSet
from ..models.families import blocks_of, geometry_of
from ..models.protocol import batch_of
from .token_weights import WEIGHTINGS, TokenWeights


def kept_bytes(teacher: nn.Module, images: int) -> int:
    """Bytes that `CorrectionImages` keeps of images, besides the weights of their tokens."""
    return images * 3 * geometry_of(teacher).image_size ** 2 * next(teacher.parameters()).dtype.itemsize


@dataclass(frozen=True)
class Batch:
    """Images of one data set: their positions in it (`read`) and among all images (`rows`).

    `share` is the weight of each token, so that all of a data set's tokens sum to 1 / (number of data sets).
    """

    dataset: str
    read: range
    rows: slice
    share: float


class CorrectionImages:
    """Images by data set, in the teacher's size, read a batch at a time.

    The weights of their tokens are kept where the teacher is, 4 bytes a token and layer; with `keep` also the images,
    in the memory of the machine.
    """

    def __init__(
        self, teacher: nn.Module, drawn: Mapping[str, SampleSet], weighting: str, batch_size: int, keep: bool = False
    ) -> None:
        self._teacher, self._drawn, self._weighting = teacher, drawn, weighting
        self._image_tokens = blocks_of(teacher)[0].tokens_side ** 2
        self._weights: dict[int, TokenWeights] = {}
        self._keep = keep
        self._read: dict[int, tuple[Tensor, Tensor]] = {}
        self.counts = {name: len(samples) for name, samples in drawn.items()}
        self.batches = self._in_batches(batch_size)

    def __len__(self) -> int:
        """Number of images."""
        return sum(self.counts.values())

    @property
    def groups(self) -> list[tuple[str, str]]:
        """Data set and group of every image, in order: what must stay together when images are held out."""
        return [(name, group) for name, samples in self._drawn.items() for group in samples.groups]

    def read(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return images (B, 3, S, S), in the teacher's number type, and boxes (B, 4), on its device."""
        parameter = next(self._teacher.parameters())
        found = self._read.get(batch.rows.start)
        if found is None:
            samples = [self._drawn[batch.dataset][index] for index in batch.read]
            pairs = [(sample.image, sample.box) for sample in samples]
            images, boxes = batch_of(pairs, geometry_of(self._teacher).frame)
            found = images.to(parameter.dtype), boxes
        if self._keep:
            self._read[batch.rows.start] = found
        return found[0].to(parameter.device), found[1].to(parameter.device)

    def weigh(self, batch: Batch, images: Tensor, boxes: Tensor) -> None:
        """Find the weights of a batch's tokens, if they are not known yet."""
        if batch.rows.start not in self._weights:
            self._weights[batch.rows.start] = WEIGHTINGS[self._weighting](self._teacher, images, boxes)

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
            for start in range(0, count, batch_size):
                read = range(start, min(start + batch_size, count))
                batches.append(Batch(name, read, slice(offset + read.start, offset + read.stop), share))
            offset += count
        return tuple(batches)
