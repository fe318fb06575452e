"""A few drawn images with masks, made when asked for, as a data set for `tiny_sam`."""

import weakref
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from medcore_prune.data.prompts import box_from_mask
from medcore_prune.data.samples import ArraySet, Sample, arrays, content_hash


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


def several_boxes(images: int = 4, boxes: int = 5, interleaved: bool = False, name: str = "several") -> ArraySet:
    """Images of 40 x 56 noise with several ellipses each, every ellipse a sample; `interleaved` or image by image."""
    rng = np.random.default_rng(7)
    pictures = [rng.integers(0, 255, (40, 56, 3), dtype=np.uint8) for _ in range(images)]
    places = [(image, box) for image in range(images) for box in range(boxes)]
    if interleaved:
        places.sort(key=lambda place: (place[1], place[0]))
    y, x = np.mgrid[:40, :56]
    masks = []
    for _ in places:
        centre, radii = rng.uniform((10, 12), (30, 44)), rng.uniform((5, 5), (9, 11))
        masks.append(((y - centre[0]) / radii[0]) ** 2 + ((x - centre[1]) / radii[1]) ** 2 < 1)
    ids = [f"{image}#{box}" for image, box in places]
    # copies, so that pixels alone can tell that an image is the same
    return arrays(name, [pictures[image].copy() for image, _ in places], masks, ids=ids)


class OneByOne(Fixed):
    """The same samples, each taken for an image of its own: the plain loop over boxes."""

    def image_keys(self) -> list[str]:
        return self.ids


class Counting:
    """A set that makes its images when asked for and knows how many of them are alive.

    Args:
        count: How many.
        side: Of the square images, in pixels.
    """

    name = "counting"

    def __init__(self, count: int, side: int = 64) -> None:
        self.ids = [f"{index:05d}" for index in range(count)]
        self.groups = self.ids
        self._side = side
        self.alive, self.most_alive, self.reads = 0, 0, 0

    def __len__(self) -> int:
        return len(self.ids)

    def __iter__(self) -> Iterator[Sample]:
        return (self[index] for index in range(len(self)))

    def __getitem__(self, index: int) -> Sample:
        rng = np.random.default_rng(index)
        image = rng.integers(0, 255, (self._side, self._side, 3), dtype=np.uint8)
        mask = np.zeros((self._side, self._side), dtype=bool)
        mask[self._side // 4 : self._side // 2, self._side // 4 : self._side // 2 + index % 8] = True
        weakref.finalize(image, self._gone)
        self.reads += 1
        self.alive += 1
        self.most_alive = max(self.most_alive, self.alive)
        return Sample(self.name, self.ids[index], image, mask, box_from_mask(mask), self.ids[index])

    def _gone(self) -> None:
        self.alive -= 1

    def hashes(self) -> list[str]:
        return [content_hash(sample.image, sample.mask) for sample in self]
