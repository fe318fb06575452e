"""One image with its mask and box, and the shape of a set of them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import numpy.typing as npt

Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class Sample:
    """One image, one object.

    Attributes:
        dataset: Name of the data set, the sub-distribution D_k of Eq. 13.
        name: Name within the data set.
        image: (H, W, 3) uint8, RGB.
        mask: (H, W) bool.
        box: x0, y0, x1, y1 in image pixels: the smallest and largest indices of the mask.
        group: What must stay on one side of a split: a video sequence, a patient, else the image.
    """

    dataset: str
    name: str
    image: npt.NDArray[np.uint8] = field(repr=False)
    mask: npt.NDArray[np.bool_] = field(repr=False)
    box: Box
    group: str


class SampleSet(Protocol):
    """A finite, ordered data set whose items are read or made when asked for."""

    @property
    def name(self) -> str: ...

    @property
    def ids(self) -> Sequence[str]:
        """Sample names in order."""
        ...

    @property
    def groups(self) -> Sequence[str]:
        """The group of each sample, in order."""
        ...

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Sample: ...

    def __iter__(self) -> Iterator[Sample]: ...

    def hashes(self) -> Sequence[str]:
        """SHA-256 of each sample's image and mask pixels, and of a box that is not the mask's own (hex), in order."""
        ...


def subset_hash(samples: SampleSet) -> str:
    """Return one SHA-256 (hex) for a whole set: its name, ids and content hashes, in order.

    Args:
        samples: The set.

    Returns:
        64 characters.
    """
    import hashlib

    lines = [samples.name, *(f"{i} {h}" for i, h in zip(samples.ids, samples.hashes(), strict=True))]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()
