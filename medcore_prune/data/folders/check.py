"""Every file of a folder looked at before the first use: masks read, sizes compared, what is wrong said together."""

import os
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar
from unicodedata import category

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from ..._support.errors import DataError
from ..._support.progress import track
from ..images import MaskThreshold, image_shape, read_image, read_labels, read_mask
from ..mask_checks import no_photograph
from ..prompts import Box, is_outside
from .contents import read_picture
from .listing import BAD_FILES, BOX_ONLY, BOX_OUTSIDE, CANNOT_BE_READ, EMPTY, NO_BOX, SIZES_DIFFER, Entry, Listing
from .looks import Looks, is_own_image, why_sizes_differ

T = TypeVar("T")

_THREADS = min(8, os.cpu_count() or 1)
_LONGEST_SHOWN = 80
_LONG = 500  # from here on a loop over files shows its progress
_IMAGES_READ = 16  # of a folder when it is opened, spread over it
_TOUCHING = np.ones((3, 3), dtype=bool)


class BadFilesError(DataError):
    """Files of a folder that cannot be used, without which the others can be.

    Attributes:
        plain: The message without what to do.
    """

    def __init__(self, plain: str) -> None:
        super().__init__(f"{plain}\n  mend them, or leave them out with skip_bad=True")
        self.plain = plain


@dataclass(frozen=True)
class Objects:
    """What is a sample of its own.

    Attributes:
        labels: Masks are label maps, each value a sample.
        instances: Each connected part of a mask is a sample.
        smallest_px: Parts of fewer pixels are left out.
        threshold: See `read_mask`.
    """

    labels: bool = False
    instances: bool = False
    smallest_px: int = 1
    threshold: MaskThreshold = None


def mask_of(entry: Entry, threshold: MaskThreshold = None) -> npt.NDArray[np.bool_]:
    """Read the mask of one sample: its region or label, its mask files merged, or one connected part of that."""
    if entry.region is not None:
        return entry.region.mask()
    if entry.part is not None and entry.label is not None:
        return entry.part.mask(entry.label)
    if entry.label is not None:
        return np.asarray(read_labels(entry.masks[0]) == entry.label)
    masks = [read_mask(path, threshold) for path in entry.masks]
    if len({mask.shape for mask in masks}) > 1:
        raise _SizesDifferError(f"{entry.image}: its masks differ in size, {', '.join(_size(m.shape) for m in masks)}")
    mask = np.logical_or.reduce(masks)
    return mask if entry.component is None else np.asarray(_components(mask) == entry.component)


class _SizesDifferError(DataError):
    pass


def _components(mask: npt.NDArray[np.bool_]) -> npt.NDArray[np.int32]:
    """Number the connected parts of a mask from 1; pixels that touch at a corner are connected."""
    return np.asarray(ndimage.label(mask, _TOUCHING)[0])


def image_of(entry: Entry) -> npt.NDArray[np.uint8]:
    """Read the image of one sample, (H, W, 3) uint8."""
    return read_picture(entry.image) if entry.part is None else entry.part.pixels()


def check_names(listing: Listing) -> None:
    """Report names that tables and messages cannot hold: line breaks, other control characters, bytes of no text."""
    for entry in listing.entries:
        for text in (entry.name, entry.group):
            if any(category(character) in ("Cc", "Cs") for character in text):
                listing.report("name with control characters", ascii(text[:_LONGEST_SHOWN]))


def check_roles_of(listing: Listing) -> None:
    """Report what contradicts a published split: images in no part of it, and groups in two."""
    if not any(entry.role for entry in listing.entries):
        return
    of_group: dict[str, set[str]] = defaultdict(set)
    for entry in listing.entries:
        if entry.role is None:
            listing.report("in no part of the split", str(entry.image))
        else:
            of_group[entry.group].add(entry.role)
    for group, roles in of_group.items():
        if len(roles) > 1:
            listing.report("one group in two parts of the split", f"{group}: {', '.join(sorted(roles))}")
    counts = Counter(entry.role for entry in listing.entries)
    said = ", ".join(f"{role} {counts[role]}" for role in ("train", "validation", "test") if counts[role])
    listing.notes.append(f"the folder has a split of its own, which is kept: {said}")


def check_boxes(listing: Listing, given: Mapping[str, Box]) -> None:
    """Report boxes that no sample asks for, samples without one, and boxes outside of their image."""
    names = {entry.name for entry in listing.entries}
    for unknown in sorted(given.keys() - names):
        listing.report(BOX_ONLY, unknown)
    good = []
    for entry in listing.entries:
        if entry.name not in given:
            listing.report(NO_BOX, entry.name)
            continue
        height, width = image_shape(entry.image) if entry.part is None else image_of(entry).shape[:2]
        if is_outside(given[entry.name], (height, width)):
            listing.report(BOX_OUTSIDE, f"{entry.name} ({width} x {height})")
        else:
            good.append(entry)
    listing.entries = good


def check_files(listing: Listing, objects: Objects, looks: Looks) -> Listing:
    """Read every mask and every image's size; return the samples that can be used, with what is wrong with others.

    Some images are read whole: is it images that lie there? What masks look like is collected by `looks`.
    """
    results: dict[int, tuple[list[Entry], int]] = {}
    problems: dict[int, tuple[str, str]] = {}
    every = max(1, len(listing.entries) // _IMAGES_READ)

    def visit(item: tuple[int, Entry]) -> None:
        index, entry = item
        if entry.part is not None:
            # read when it was listed
            results[index] = [entry], 0
            return
        try:
            shape = image_shape(entry.image)
            if index % every == 0 and no_photograph(read_image(entry.image)):
                looks.add_mask(entry)
            found, tiny, mask_shape = _samples_of(entry, objects, looks)
        except _SizesDifferError as error:
            problems[index] = (SIZES_DIFFER, str(error))
        except DataError as error:
            problems[index] = (CANNOT_BE_READ, str(error))
        else:
            if mask_shape != shape:
                why = why_sizes_differ(entry, shape, mask_shape)
                problems[index] = (SIZES_DIFFER, f"{entry.image} {_size(shape)}, mask {_size(mask_shape)}{why}")
            elif is_own_image(entry) and not no_photograph(read_image(entry.image)):
                problems[index] = ("mask that is its own image", str(entry.image))
            elif not found and not tiny:
                problems[index] = (EMPTY, ", ".join(map(str, entry.masks)) or entry.name)
            else:
                results[index] = found, tiny

    for_each(visit, list(enumerate(listing.entries)), "checking masks")
    checked = Listing([each for i in sorted(results) for each in results[i][0]], listing.problems, listing.notes)
    for index in sorted(problems):
        checked.report(*problems[index])
    if tiny := sum(count for _, count in results.values()):
        bare = [str(listing.entries[i].image) for i in sorted(results) if not results[i][0]]
        without = f"; images without a larger one: {', '.join(bare)}" if bare else ""
        checked.notes.append(f"left out {tiny} parts of masks of fewer than {objects.smallest_px} pixels{without}")
    return checked


def _samples_of(entry: Entry, objects: Objects, looks: Looks) -> tuple[list[Entry], int, tuple[int, ...]]:
    """Return the samples of an image, how many parts are too small to be one, and the mask's shape."""
    if objects.labels:
        labels = read_labels(entry.masks[0])
        present = [int(value) for value in np.unique(labels) if value]
        named = [replace(part, label=n) for n, part in _parts(entry, present)]
        for part in named:
            looks.add(part, labels == part.label)
        return named, 0, labels.shape
    mask = mask_of(entry, objects.threshold)
    if not objects.instances or entry.region is not None:
        if mask.any():
            looks.add(entry, mask)
        return ([entry] if mask.any() else []), 0, mask.shape
    numbers = _components(mask)
    sizes = np.bincount(numbers.ravel())[1:]
    large = [number for number, size in enumerate(sizes, 1) if size >= objects.smallest_px]
    parts = [replace(part, component=n) for n, part in _parts(entry, large)]
    for part in parts:
        looks.add(part, numbers == part.component)
    return parts, len(sizes) - len(large), mask.shape


def _parts(entry: Entry, numbers: Sequence[int]) -> list[tuple[int, Entry]]:
    """Numbers of objects in an image, each with the image's entry under a name of its own."""
    several = len(numbers) > 1
    return [(number, replace(entry, name=f"{entry.name}#{number}") if several else entry) for number in numbers]


def for_each(visit: Callable[[T], None], items: Sequence[T], title: str) -> None:
    """Visit items in a few threads; many of them show how far it is."""
    with ThreadPoolExecutor(_THREADS) as pool:
        done: Iterable[None] = pool.map(visit, items)
        for _ in track(done, title, total=len(items), show=len(items) >= _LONG):
            pass


def leave_out(root: Path, listing: Listing, kinds: Collection[str]) -> None:
    """Turn problems of these kinds into a note that names all of them."""
    found = {kind: listing.problems.pop(kind) for kind in sorted(kinds) if kind in listing.problems}
    if found:
        total = sum(map(len, found.values()))
        listing.notes.insert(0, f"{total} left out, {len(listing.entries)} used; {_lines(root, found, '; ')}")


def refuse(root: Path, listing: Listing) -> None:
    """Raise one error that lists all problems, paths relative to the folder."""
    if not listing.problems:
        return
    total = sum(map(len, listing.problems.values()))
    problems = f"{total} problem{'s' * (total > 1)} to mend before any work starts"
    text = f"{root}: {problems}\n  {_lines(root, listing.problems, _NEXT)}"
    raise BadFilesError(text) if listing.problems.keys() <= BAD_FILES else DataError(text)


_NEXT = "\n  "


def _lines(root: Path, problems: Mapping[str, Sequence[str]], between: str) -> str:
    lines = [f"{kind} ({len(what)}): " + "; ".join(what) for kind, what in sorted(problems.items())]
    return between.join(lines).replace(f"{root}{os.sep}", "")


def _size(shape: Sequence[int]) -> str:
    return f"{shape[1]} x {shape[0]}"
