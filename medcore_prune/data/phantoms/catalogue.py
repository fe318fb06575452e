"""The phantom sets by name, and the lazy data set over one of them."""

import difflib
import hashlib
from collections.abc import Callable, Iterator
from functools import partial

import numpy as np
import numpy.typing as npt

from ..._support.errors import DataError
from ..prompts import box_from_mask
from ..samples import Sample
from . import objects, polyp, skin, ultrasound
from .canvas import Canvas, stream
from .scene import Scene

RENDERERS: dict[str, Callable[[Canvas], Scene]] = {
    "phantom_polyp_a": partial(polyp.render, look=polyp.LOOK_A),
    "phantom_polyp_b": partial(polyp.render, look=polyp.LOOK_B),
    "phantom_polyp_c": partial(polyp.render, look=polyp.LOOK_C),
    "phantom_ultrasound": ultrasound.render,
    "phantom_skin": skin.render,
    "phantom_objects": objects.render,
}
SMALLEST_SIZE = 32
SMALLEST_FRACTION = 0.005


def available() -> list[str]:
    """Return the names of the phantom sets: phantom images, not clinical data."""
    return list(RENDERERS)


def scene(set_name: str, seed: int, index: int, size: int = 128) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.bool_]]:
    """Render one phantom image with the mask of every object in it.

    Args:
        set_name: One of `available()`.
        seed: Of the set.
        index: Of the image, at least 0.
        size: Side in pixels, at least 32.

    Returns:
        The image, (size, size, 3) uint8, and the masks, (n, size, size) bool, each with pixels: n is 1 for the
        medical sets and 3 to 6 for `phantom_objects`.

    Raises:
        DataError: The name is unknown, the size too small or the index negative.
    """
    _check(set_name, size)
    if index < 0:
        raise DataError(f"expected an index of at least 0 in {set_name}, got {index}")
    canvas = Canvas(stream(set_name, seed, index), size)
    rendered = RENDERERS[set_name](canvas)
    # a fold or a frame hides a growth now and then: the same stream goes on to the next
    while rendered.masks.mean(axis=(1, 2)).min() < SMALLEST_FRACTION:
        rendered = RENDERERS[set_name](canvas)
    return rendered.image, rendered.masks


def make(set_name: str, *, seed: int = 0, count: int = 256, size: int = 128) -> "PhantomSet":
    """Return a phantom data set: phantom images, not clinical data.

    Args:
        set_name: One of `available()`.
        seed: Of the set; other seeds give other images.
        count: Number of images, at least 1. Item i is the same whatever the count.
        size: Side of the images in pixels, at least 32.

    Returns:
        A set whose images are rendered when asked for.

    Raises:
        DataError: The name is unknown, the count or the size too small.
    """
    return PhantomSet(set_name, seed=seed, count=count, size=size)


class PhantomSet:
    """Phantom images of one kind, rendered when asked for; a `SampleSet`.

    Item i depends on the set's name, the seed, i and the size alone. With the same NumPy and SciPy on the same kind of
    processor the bytes are equal. Elsewhere they are expected to be equal, but not promised: all arithmetic is float64,
    so another library's rounding changes a pixel only if it lies within about 1e-13 of the next grey level.
    """

    synthetic = True
    """Its images are drawn."""

    def __init__(self, set_name: str, *, seed: int, count: int, size: int) -> None:
        _check(set_name, size)
        if count < 1:
            raise DataError(f"expected a count of at least 1 for {set_name}, got {count}")
        self._name, self.seed, self._count, self.size = set_name, seed, count, size
        self._hashes: list[str] | None = None

    def __repr__(self) -> str:
        return f"PhantomSet({self._name!r}, {self._count} samples of {self.size} px, seed {self.seed})"

    @property
    def name(self) -> str:
        """Name of the set."""
        return self._name

    @property
    def ids(self) -> list[str]:
        """Sample names in order, seed and index."""
        return [f"s{self.seed}_{index:06d}" for index in range(self._count)]

    @property
    def groups(self) -> list[str]:
        """Each image is its own group."""
        return self.ids

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[Sample]:
        return (self[index] for index in range(self._count))

    def __getitem__(self, index: int) -> Sample:
        if not 0 <= index < self._count:
            raise IndexError(f"expected an index from 0 to {self._count - 1} in {self._name}, got {index}")
        image, masks = scene(self._name, self.seed, index, self.size)
        pick = stream(f"{self._name}/pick", self.seed, index).integers(len(masks))
        mask = masks[pick]
        name = f"s{self.seed}_{index:06d}"
        return Sample(self._name, name, image, mask, box_from_mask(mask), name)

    def image_keys(self) -> list[str]:
        """Each sample shows an image of its own."""
        return self.ids

    def hashes(self) -> list[str]:
        """SHA-256 of each sample's image and mask pixels (hex), in order; rendered once, then remembered."""
        if self._hashes is None:
            self._hashes = [_digest(sample) for sample in self]
        return list(self._hashes)


def _digest(sample: Sample) -> str:
    digest = hashlib.sha256(np.ascontiguousarray(sample.image).tobytes())
    digest.update(np.ascontiguousarray(sample.mask).tobytes())
    return digest.hexdigest()


def _check(set_name: str, size: int) -> None:
    if set_name not in RENDERERS:
        near = difflib.get_close_matches(set_name, RENDERERS, n=1)
        hint = f"did you mean {near[0]}?" if near else f"choose one of {', '.join(RENDERERS)}"
        raise DataError(f"unknown phantom set '{set_name}': {hint}")
    if size < SMALLEST_SIZE:
        raise DataError(f"expected phantom images of at least {SMALLEST_SIZE} px, got {size}")
