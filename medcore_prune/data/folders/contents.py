"""What the files of a folder held when they were hashed: hashed again once they change, and read while they do not.

A hash that was told stands in splits, statistics and stored results for ever. So it must be that of the pixels that
are read afterwards: files are looked at again (size, times, number) whenever hashes are asked for and whenever work
begins, and a sample that is read in between is held against the hash that was told.
"""

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from time import time_ns
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from ..._support.errors import DataError
from ..images import read_image
from ..mask_checks import no_photograph
from ..prompts import Box
from ..samples import content_hash, image_hash, perceptual_hash
from .listing import CANNOT_BE_READ, Entry, Listing

_SETTLED_NS = 2_000_000_000
"""A file that changed less than this before it was read may change again within the same tick of its clock."""

Stamp = tuple[tuple[int, ...], ...]
Mask = npt.NDArray[np.bool_]
Source = tuple[Path, int]
"""An image: its file, and its plane there, 0 where it is all of the file."""
ForEach = Callable[[Callable[[Source], None], Sequence[Source]], None]


def read_picture(path: Path) -> npt.NDArray[np.uint8]:
    """Read an image as `read_image` does; one that is a mask by its values is refused."""
    image = read_image(path)
    if said := no_photograph(image):
        raise DataError(f"{path}: {said}")
    return image


class Hashes(NamedTuple):
    """Of a sample: all of it, its image alone, and how the image looks."""

    sample: str
    image: str
    perceptual: str


class Contents:
    """Hashes of the samples of a folder, always those of its files as they are.

    Args:
        entries: The files of each sample.
        boxes: Given boxes by sample name, which are a part of the hash.
        read_image: Reads the image of one sample, (H, W, 3) uint8.
        read_mask: Reads its mask.
    """

    def __init__(
        self,
        entries: Sequence[Entry],
        boxes: Mapping[str, Box],
        read_image: Callable[[Entry], npt.NDArray[np.uint8]],
        read_mask: Callable[[Entry], Mask],
    ) -> None:
        self._entries, self._boxes = entries, boxes
        self._read_image, self._read_mask = read_image, read_mask
        self._together: dict[Source, list[int]] = {}
        for index, entry in enumerate(entries):
            self._together.setdefault((entry.image, entry.part.index if entry.part else 0), []).append(index)
        self._hashes: list[Hashes | None] = [None] * len(entries)
        # what files were like when they were hashed; None if they had only just changed
        self._seen: dict[Source, Stamp | None] = {}

    def hashes(self, for_each: ForEach, refuse: Callable[[Listing], None]) -> list[Hashes]:
        """Return the hashes of all samples; files that changed since the last call, and no others, are read.

        `for_each` calls a function with each of many images; `refuse` raises what a listing reports.
        """
        problems: dict[Source, str] = {}

        def visit(source: Source) -> None:
            try:
                self._hash(source)
            except DataError as error:
                problems[source] = str(error)

        for_each(visit, [source for source in self._together if not self._is_as_it_was(source)])
        found = Listing()
        for source in sorted(problems):
            found.report(CANNOT_BE_READ, problems[source])
        refuse(found)
        return [each for each in self._hashes if each is not None]

    def renew(self) -> None:
        """Forget what was told of files that changed since: from now on they count as they are."""
        for source in [source for source in self._seen if not self._is_as_it_was(source)]:
            del self._seen[source]
            for index in self._together[source]:
                self._hashes[index] = None

    def require_as_told(self, index: int, image: npt.NDArray[np.uint8], mask: Mask) -> None:
        """Refuse what was read of a sample where it is not what its hash was told of; before that anything is."""
        told, entry = self._hashes[index], self._entries[index]
        if told is not None and content_hash(image, mask, self._boxes.get(entry.name)) != told.sample:
            files = ", ".join(str(path) for path in (entry.image, *entry.masks))
            raise DataError(
                f"{files}: image or mask changed after the folder was read: what is computed would be kept under the "
                "hash of other pixels; let the files be while work goes on, and open the folder again"
            )

    def _is_as_it_was(self, image: Source) -> bool:
        seen = self._seen.get(image)
        return seen is not None and seen == self._stamp(image)

    def _stamp(self, image: Source) -> Stamp | None:
        """Number, size and times of an image and of all masks on it; None where a file is gone."""
        indices = self._together[image]
        files = dict.fromkeys([image[0], *(mask for index in indices for mask in self._entries[index].masks)])
        try:
            found = [os.stat(path) for path in files]
        except OSError:
            return None
        return tuple((each.st_ino, each.st_size, each.st_mtime_ns, each.st_ctime_ns) for each in found)

    def _hash(self, source: Source) -> None:
        before, now = self._stamp(source), time_ns()
        image = self._read_image(self._entries[self._together[source][0]])
        alone, look = image_hash(image), perceptual_hash(image)
        for index in self._together[source]:
            entry = self._entries[index]
            both = content_hash(image, self._read_mask(entry), self._boxes.get(entry.name))
            self._hashes[index] = Hashes(both, alone, look)
        settled = before is not None and all(now - max(times[2:]) > _SETTLED_NS for times in before)
        self._seen[source] = before if settled else None
