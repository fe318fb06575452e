"""What is odd about the masks, boxes and images of a folder taken together, and cannot be told from one file.

Boxes that are written in another way are refused. Masks that look turned round, and pictures that a camera stored on
their side, may be as they are meant: they are read as the rule says, and noted.
"""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ..._support.words import few_of
from ..box_check import Pair, misreading, uncovering
from ..phantoms.marked import is_drawn
from ..prompts import Box, box_from_mask
from ..stored import orientation
from .listing import Entry, Listing

_NEARLY_ALL_AROUND, _MOST_OF_IT = 0.75, 0.5


class Looks:
    """Collects what masks look like while they are read; several threads may add.

    Args:
        boxes: Given boxes by sample name.
    """

    def __init__(self, boxes: Mapping[str, Box]) -> None:
        self._boxes = boxes
        self._pairs: dict[str, Pair] = {}
        self._around: dict[str, float] = {}
        self._names: set[str] = set()
        self._turned: dict[str, int] = {}
        self._masks: set[str] = set()
        self._synthetic: set[Path] = set()

    def add(self, entry: Entry, mask: npt.NDArray[np.bool_]) -> None:
        """Look at the mask of a sample, (H, W), with a pixel inside."""
        edge = np.concatenate([mask[0], mask[-1], mask[1:-1, 0], mask[1:-1, -1]])
        if mask.mean() > _MOST_OF_IT and not mask.all():
            self._around[entry.name] = float(edge.mean())
        self._names.add(entry.name)
        if (how := turned(entry)) != 1:
            self._turned[entry.name] = how
        if is_drawn(entry.image):
            self._synthetic.add(entry.image)
        box = self._boxes.get(entry.name)
        if box is not None:
            self._pairs[entry.name] = Pair.of(box, box_from_mask(mask), mask)

    def add_mask(self, entry: Entry) -> None:
        """Note an image that is a mask by its values."""
        self._masks.add(entry.name)

    @property
    def synthetic(self) -> int:
        """How many of the images are drawn by this package."""
        return len(self._synthetic)

    def report(self, listing: Listing) -> list[str]:
        """Add what must be mended to a listing, and return what one should know."""
        if wrong := misreading(list(self._pairs.values())):
            listing.report("boxes written in another way", wrong)
        said = [self._images(), self._polarity(), self._orientation(), "" if wrong else uncovering(self._pairs)]
        return [note for note in said if note]

    def _images(self) -> str:
        names = sorted(self._masks)
        if not names:
            return ""
        return (
            f"images look like masks, not like images ({few_of(names)} of those that were looked at): are images and "
            "masks exchanged? No work is done on them: such an image is refused when it is read"
        )

    def _polarity(self) -> str:
        around = sorted(name for name, share in self._around.items() if share >= _NEARLY_ALL_AROUND)
        if 2 * len(around) <= len(self._names):
            # an object that fills the picture leaves it somewhere: what is shut in on all sides is rather the object
            around = [name for name in around if self._around[name] == 1]
        if not around:
            return ""
        return (
            f"in {len(around)} of {len(self._names)} masks what is not black lies all around and covers most of the "
            f"image ({few_of(around)}); it is taken for the object: if that is dark on white, invert the masks"
        )

    def _orientation(self) -> str:
        names = sorted(self._turned)
        if not names:
            return ""
        return (
            f"{len(names)} image{'s are' if len(names) > 1 else ' is'} turned upright by the EXIF orientation "
            f"({few_of([f'{name}: {self._turned[name]}' for name in names])}) and the masks are not; masks are taken "
            "as drawn on the upright picture: if yours were drawn on the pixels as stored, save the images upright, "
            "without that tag"
        )


def turned(entry: Entry) -> int:
    """Return the EXIF orientation by which an image, and not its mask, is turned; 1 for none."""
    how = orientation(entry.image)
    return 1 if how == 1 or any(orientation(path) == how for path in entry.masks) else how


def why_sizes_differ(entry: Entry, shape: Sequence[int], mask_shape: Sequence[int]) -> str:
    """Say what is behind sizes that differ, where the mask was drawn on pixels that the camera stored on their side."""
    how = turned(entry)
    if how < 5 or tuple(mask_shape) != tuple(shape)[::-1]:
        return ""
    return (
        f" (the image is turned by its EXIF orientation {how}, the mask fits the pixels as stored: save the image "
        "without that tag, or the mask upright)"
    )


def is_own_image(entry: Entry) -> bool:
    """Whether a sample's mask is its image, or a copy of that file."""
    return any(_same(entry.image, path) for path in entry.masks)


def _same(first: Path, second: Path) -> bool:
    try:
        if os.path.samefile(first, second):
            return True
        return first.stat().st_size == second.stat().st_size and first.read_bytes() == second.read_bytes()
    except OSError:
        return False
