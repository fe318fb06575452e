"""A few drawn images with masks, made when asked for, as a data set for `tiny_sam`."""

from collections.abc import Callable, Iterator, Sequence

import numpy as np

from medcore_prune.data.prompts import box_from_mask
from medcore_prune.data.samples import Sample, content_hash


class TinySamples:
    """Bright ellipses on noise, 40 x 56 pixels.

    Args:
        name: Of the data set; the images depend on it.
        count: How many.
        on_read: Called with each index before the sample is made.
    """

    def __init__(self, name: str, count: int, on_read: Callable[[int], None] | None = None) -> None:
        self.name, self._on_read = name, on_read
        self.ids = [f"{index:03d}" for index in range(count)]
        self.groups = self.ids
        self.read: list[int] = []

    def __len__(self) -> int:
        return len(self.ids)

    def __iter__(self) -> Iterator[Sample]:
        return (self[index] for index in range(len(self)))

    def __getitem__(self, index: int) -> Sample:
        self.read.append(index)
        if self._on_read:
            self._on_read(index)
        return self._make(index)

    def _make(self, index: int) -> Sample:
        rng = np.random.default_rng([index, *self.name.encode()])
        y, x = np.mgrid[:40, :56]
        centre_y, centre_x = rng.uniform(15, 25), rng.uniform(20, 36)
        mask = ((y - centre_y) / rng.uniform(5, 12)) ** 2 + ((x - centre_x) / rng.uniform(5, 16)) ** 2 < 1
        image = (rng.uniform(0, 120, (40, 56, 3)) + 100 * mask[:, :, None]).astype(np.uint8)
        return Sample(self.name, self.ids[index], image, mask, box_from_mask(mask), self.groups[index])

    def hashes(self) -> list[str]:
        made = (self._make(index) for index in range(len(self)))
        return [content_hash(sample.image, sample.mask) for sample in made]


class Fixed:
    """Samples at hand, as a set; each is known by its name unless hashes are given."""

    name = "fixed"

    def __init__(self, samples: Sequence[Sample], hashes: Sequence[str] | None = None) -> None:
        self._samples = list(samples)
        self._hashes = list(hashes) if hashes is not None else self.ids

    @property
    def ids(self) -> list[str]:
        return [sample.name for sample in self._samples]

    @property
    def groups(self) -> list[str]:
        return [sample.group for sample in self._samples]

    def __len__(self) -> int:
        return len(self._samples)

    def __getitem__(self, index: int) -> Sample:
        return self._samples[index]

    def __iter__(self) -> Iterator[Sample]:
        return iter(self._samples)

    def hashes(self) -> list[str]:
        return self._hashes
