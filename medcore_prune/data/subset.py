"""Part of a data set, in an order of its own."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from .content import image_hash, perceptual_hash
from .types import Sample, SampleSet


@dataclass(frozen=True)
class Subset:
    """Chosen samples of a data set; a `SampleSet`.

    Attributes:
        parent: The whole set.
        indices: Positions in it, in the order of this set.
        name: Name of this set and of its samples' data set.
    """

    parent: SampleSet
    indices: tuple[int, ...]
    name: str

    def __repr__(self) -> str:
        return f"Subset({self.name!r}, {len(self)} of {len(self.parent)} samples)"

    @property
    def ids(self) -> Sequence[str]:
        """Sample names in order."""
        return self._pick(self.parent.ids)

    @property
    def groups(self) -> Sequence[str]:
        """The group of each sample, in order."""
        return self._pick(self.parent.groups)

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, index: int) -> Sample:
        return replace(self.parent[self.indices[index]], dataset=self.name)

    def __iter__(self) -> Iterator[Sample]:
        return (self[index] for index in range(len(self)))

    def hashes(self) -> Sequence[str]:
        """SHA-256 of each sample's image and mask pixels (hex), in order."""
        return self._pick(self.parent.hashes())

    def image_hashes(self) -> Sequence[str]:
        """SHA-256 of each sample's image pixels (hex), in order."""
        return self._pick(image_hashes(self.parent))

    def perceptual_hashes(self) -> Sequence[str]:
        """`perceptual_hash` of each sample's image, in order."""
        return self._pick(perceptual_hashes(self.parent))

    def _pick(self, values: Sequence[str]) -> list[str]:
        return [values[index] for index in self.indices]


def at_most(samples: SampleSet, most: int) -> SampleSet:
    """Return a set, or of a larger one so many samples, always the same ones, drawn from all of it and in its order."""
    if len(samples) <= most:
        return samples
    drawn = np.random.default_rng(0).permutation(len(samples))[:most]
    return Subset(samples, tuple(sorted(int(index) for index in drawn)), samples.name)


def image_hashes(samples: SampleSet) -> Sequence[str]:
    """Return SHA-256 of each sample's image pixels (hex); sets that do not keep them are read through."""
    kept = getattr(samples, "image_hashes", None)
    return kept() if kept is not None else [image_hash(sample.image) for sample in samples]


def perceptual_hashes(samples: SampleSet) -> Sequence[str]:
    """Return `perceptual_hash` of each sample's image, in order; sets that do not keep them are read through."""
    kept = getattr(samples, "perceptual_hashes", None)
    return kept() if kept is not None else [perceptual_hash(sample.image) for sample in samples]
