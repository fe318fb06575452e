"""Images with masks from a folder: everything is checked before the first use, pixels are read when asked for."""

import os
import re
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TypeVar
from unicodedata import category

import numpy as np
import numpy.typing as npt

from ..._support.errors import DataError, DataWarning, WordsError
from ..._support.progress import track
from ..images import image_shape, read_labels, read_mask
from ..prompts import Box, box_from_mask, boxes_from_csv, is_outside
from ..samples import Sample
from .contents import Contents, Hashes, read_picture
from .layouts import Entry, Listing, scan_folder
from .looks import Looks, is_own_image, why_sizes_differ
from .manifest import honour_manifest

T = TypeVar("T")

_THREADS = min(8, os.cpu_count() or 1)
_MANY_FRAMES = 20
_LONGEST_SHOWN = 80
_IMAGES_READ = 16  # of a folder when it is opened, spread over it: is it images that lie there?
_LONG = 500  # from here on a loop over files shows its progress


@dataclass(frozen=True)
class FolderSet:
    """A data set that reads its images from files; a `SampleSet`.

    Attributes:
        name: Name of the data set.
        root: The folder.
        entries: The files of each sample.
        notes: What was left out on purpose, with counts.
        boxes: Boxes that replace those of the masks, by sample name.
    """

    name: str
    root: Path
    entries: tuple[Entry, ...]
    notes: tuple[str, ...] = ()
    boxes: Mapping[str, Box] = field(default_factory=dict)

    def __repr__(self) -> str:
        return f"FolderSet({self.name!r}, {len(self)} samples of {str(self.root)!r})"

    @property
    def ids(self) -> Sequence[str]:
        """Sample names in order."""
        return [entry.name for entry in self.entries]

    @property
    def groups(self) -> Sequence[str]:
        """The group of each sample, in order."""
        return [entry.group for entry in self.entries]

    def __len__(self) -> int:
        return len(self.entries)

    def __getitem__(self, index: int) -> Sample:
        entry = self.entries[index]
        image, mask = read_picture(entry.image), mask_of(entry)
        self._contents.require_as_told(index, image, mask)
        box = self.boxes.get(entry.name) or box_from_mask(mask)
        return Sample(self.name, entry.name, image, mask, box, entry.group)

    def __iter__(self) -> Iterator[Sample]:
        return (self[index] for index in range(len(self)))

    def hashes(self) -> Sequence[str]:
        """SHA-256 of each sample's image, mask and given box (hex), in order; reads files that are new or changed.

        Raises:
            DataError: Files that cannot be read, all in one message.
        """
        return [each.sample for each in self._hashes]

    def image_keys(self) -> Sequence[str]:
        """The file of each sample's image, in order."""
        return [str(entry.image) for entry in self.entries]

    def image_hashes(self) -> Sequence[str]:
        """SHA-256 of each sample's image pixels (hex), in order; reads files that are new or changed.

        Raises:
            DataError: Files that cannot be read, all in one message.
        """
        return [each.image for each in self._hashes]

    def perceptual_hashes(self) -> Sequence[str]:
        """`perceptual_hash` of each sample's image, in order; reads files that are new or changed.

        Raises:
            DataError: Files that cannot be read, all in one message.
        """
        return [each.perceptual for each in self._hashes]

    def renew(self) -> None:
        """Look at the files again, as all work that begins does: hashes told so far hold no more where they changed."""
        self._contents.renew()

    @property
    def _hashes(self) -> list[Hashes]:
        def for_each(visit: Callable[[Path], None], paths: Sequence[Path]) -> None:
            _for_each(visit, paths, f"hashing {self.name}")

        return self._contents.hashes(for_each, lambda found: _refuse(self.root, found))

    @cached_property
    def _contents(self) -> Contents:
        return Contents(self.entries, self.boxes, mask_of)


def folder(
    path: str | os.PathLike[str],
    layout: str = "auto",
    name: str | None = None,
    boxes: str | os.PathLike[str] | None = None,
) -> FolderSet:
    """Open a folder of images and masks as a data set, after checking all of it.

    Every mask is read once, of images the header, and the whole file of a few and where its end is missing. What looks
    as if something else was meant, such as masks that are dark on white, is in `notes`, and warned of (`DataWarning`).
    A `manifest.csv` in the folder is honoured, see `honour_manifest`.

    Args:
        path: The folder.
        layout: A name of `LAYOUTS`, or `"auto"` to recognise it.
        name: Name of the data set; the folder's name by default.
        boxes: CSV file of box prompts (`boxes_from_csv`), one for every sample, in place of those of the masks.

    Returns:
        The samples, ordered by file name (or as the manifest has them).

    Raises:
        DataError: No such folder or layout; images without masks, masks without images, unreadable files, empty
            masks, sizes that differ, photographs in the place of masks or masks in that of images; boxes that are
            missing, of unknown names, outside of their image, or not corners in pixels: all of them in one message.
    """
    root = Path(path)
    if not root.is_dir():
        raise DataError(f"{root}: expected a folder of images and masks, there is none")
    kind, found = scan_folder(root, layout)
    listing = honour_manifest(root, found, kind.labels)
    _check_names(listing)
    given = boxes_from_csv(boxes) if boxes is not None else {}
    looks = Looks(given)
    checked = _check_files(listing, kind.labels, looks)
    if boxes is not None:
        _check_boxes(checked, given)
    odd = looks.report(checked)
    _refuse(root, checked)
    if not checked.entries:
        raise DataError(f"{root}: expected images with masks ({kind.title}), found none" + _noted(checked.notes))
    checked.notes.extend(odd)
    for note in odd:
        warnings.warn(f"{root}: {note}", DataWarning, stacklevel=2)
    if _may_be_frames(checked.entries):
        checked.notes.append(
            "numbered images without groups: if they are frames of videos, neighbours may fall on both sides of a "
            "split; a manifest.csv with the columns name,group keeps each video together"
        )
    return FolderSet(name or root.resolve().name, root, tuple(checked.entries), tuple(checked.notes), given)


def _check_names(listing: Listing) -> None:
    """Report names that tables and messages cannot hold: line breaks, other control characters, bytes of no text."""
    for entry in listing.entries:
        for text in (entry.name, entry.group):
            if any(category(character) in ("Cc", "Cs") for character in text):
                listing.report("name with control characters", ascii(text[:_LONGEST_SHOWN]))


def _check_boxes(listing: Listing, given: Mapping[str, Box]) -> None:
    """Report boxes that no sample asks for, samples without one, and boxes outside of their image."""
    names = {entry.name for entry in listing.entries}
    for unknown in sorted(given.keys() - names):
        listing.report("box without image", unknown)
    for entry in listing.entries:
        if entry.name not in given:
            listing.report("image without box", entry.name)
            continue
        height, width = image_shape(entry.image)
        if is_outside(given[entry.name], (height, width)):
            listing.report("box outside of its image", f"{entry.name} ({width} x {height})")


def _may_be_frames(entries: Sequence[Entry]) -> bool:
    """Whether many images are known by a number alone and each is a group of its own."""
    groups = {entry.group for entry in entries}
    numbered = all(re.fullmatch(r"[A-Za-z]?0*\d+", entry.name) for entry in entries)
    return numbered and len(groups) == len(entries) >= _MANY_FRAMES


def mask_of(entry: Entry) -> npt.NDArray[np.bool_]:
    """Read the mask of one sample: its label, or its mask files merged, which must be of one size."""
    if entry.label is not None:
        return np.asarray(read_labels(entry.masks[0]) == entry.label)
    masks = [read_mask(path) for path in entry.masks]
    if len({mask.shape for mask in masks}) > 1:
        raise DataError(f"{entry.image}: its masks differ in size, {', '.join(_size(mask.shape) for mask in masks)}")
    return np.logical_or.reduce(masks)


def _check_files(listing: Listing, labels: bool, looks: Looks) -> Listing:
    results: dict[int, list[Entry]] = {}
    problems: dict[int, tuple[str, str]] = {}
    every = max(1, len(listing.entries) // _IMAGES_READ)

    def visit(item: tuple[int, Entry]) -> None:
        index, entry = item
        try:
            shape = image_shape(entry.image)
            if index % every == 0:
                read_picture(entry.image)
            found, mask_shape = _split_labels(entry, looks) if labels else _whole_mask(entry, looks)
        except DataError as error:
            problems[index] = ("cannot be read", str(error))
            return
        if mask_shape != shape:
            why = why_sizes_differ(entry, shape, mask_shape)
            problems[index] = ("sizes differ", f"{entry.image} {_size(shape)}, mask {_size(mask_shape)}{why}")
        elif is_own_image(entry):
            problems[index] = ("mask that is its own image", str(entry.image))
        elif not found:
            problems[index] = ("empty mask", ", ".join(map(str, entry.masks)))
        results[index] = found

    _for_each(visit, list(enumerate(listing.entries)), "checking masks")
    checked = Listing([entry for i in sorted(results) for entry in results[i]], listing.problems, listing.notes)
    for index in sorted(problems):
        checked.report(*problems[index])
    return checked


def _whole_mask(entry: Entry, looks: Looks) -> tuple[list[Entry], tuple[int, ...]]:
    mask = mask_of(entry)
    if mask.any():
        looks.add(entry, mask)
    return ([entry] if mask.any() else []), mask.shape


def _split_labels(entry: Entry, looks: Looks) -> tuple[list[Entry], tuple[int, ...]]:
    labels = read_labels(entry.masks[0])
    present = [int(value) for value in np.unique(labels) if value]
    several = len(present) > 1
    parts = [replace(entry, label=v, name=f"{entry.name}#{v}" if several else entry.name) for v in present]
    for part in parts:
        looks.add(part, labels == part.label)
    return parts, labels.shape


def _for_each(visit: Callable[[T], None], items: Sequence[T], title: str) -> None:
    with ThreadPoolExecutor(_THREADS) as pool:
        done: Iterable[None] = pool.map(visit, items)
        for _ in track(done, title, total=len(items), show=len(items) >= _LONG):
            pass


def _refuse(root: Path, listing: Listing) -> None:
    """Raise one error that lists all problems, paths relative to the folder."""
    if not listing.problems:
        return
    total = sum(map(len, listing.problems.values()))
    lines = [f"{kind} ({len(what)}): " + "; ".join(what) for kind, what in sorted(listing.problems.items())]
    text = "\n  ".join(lines).replace(f"{root}{os.sep}", "")
    raise DataError(f"{root}: {total} problem{'s' * (total > 1)} to mend before any work starts\n  {text}")


def _size(shape: Sequence[int]) -> str:
    return f"{shape[1]} x {shape[0]}"


def _noted(notes: Sequence[str]) -> str:
    return f"; {'; '.join(notes)}" if notes else ""


_EXPECTED = {
    "--data": "NAME=DIR, for example kvasir=images/Kvasir-SEG",
    "--results": "NAME=DIR, for example phantoms=results",
}


def parse_named(values: Iterable[str], option: str = "--data") -> dict[str, Path]:
    """Split words of an option, such as `kvasir=images/Kvasir-SEG`, into name and place; no name comes twice."""
    named: dict[str, Path] = {}
    for value in values:
        name, separator, place = value.partition("=")
        if not (name and separator and place):
            raise WordsError(f"{option} {value!r}: expected {_EXPECTED[option]}")
        if name in named:
            raise WordsError(f"{option} {value!r}: the name {name!r} is given twice; every data set needs its own")
        named[name] = Path(place)
    return named
