"""What a scan of a folder finds: images with the files of their masks, and what does not pair."""

import os
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, TypeVar

import numpy as np
import numpy.typing as npt

from ..images import is_image_file
from .names import TIERS, Key, are_numbered, composed, folded, stem_of, with_number, without_mask_words

T = TypeVar("T")

CANNOT_BE_READ, SIZES_DIFFER, EMPTY = "cannot be read", "sizes differ", "empty mask"
NO_MASK, NO_IMAGE = "image without mask", "mask without image"
SEVERAL_MASKS, TWO_IMAGES = "several masks for one image", "two images of one name"
NO_BOX, BOX_OUTSIDE, BOX_ONLY = "image without box", "box outside of its image", "box without image"
BAD_FILES = frozenset(
    {CANNOT_BE_READ, SIZES_DIFFER, EMPTY, NO_MASK, NO_IMAGE, SEVERAL_MASKS, TWO_IMAGES, NO_BOX, BOX_OUTSIDE, BOX_ONLY}
)
"""Problems of single files, without which the others can be used."""

_SIDE_FILES = (".txt", ".csv", ".json", ".xml", ".md", ".db", ".ini", ".html", ".pdf", ".yaml", ".yml", ".rst", ".log")
_OTHERS = {
    (".mp4", ".avi", ".mov", ".mkv", ".mpg", ".mpeg", ".webm"): "a video, which is not read: save its frames as images",
    (".h5", ".hdf5", ".mat"): "a file of arrays, which is not read: save each image as .npy or .png",
    (".mha", ".mhd", ".nrrd"): "a volume of a format that is not read: save it as NIfTI, or its slices as .npy",
    (".nii", ".nii.gz"): "a NIfTI volume: those in images/ are read with those of their labels in labels/",
    (".svs", ".ndpi", ".mrxs", ".heic", ".dng", ".jp2"): "an image of a format that is not read: save it as .png",
    (".zip", ".tar", ".gz", ".rar", ".7z"): "an archive: unpack it",
}
"""What is no image here though it may hold some, and what to do."""


class Drawn(Protocol):
    """An object that is no file of its own."""

    def mask(self) -> npt.NDArray[np.bool_]:
        """(H, W) bool."""
        ...


class Part(Protocol):
    """A plane of a volume."""

    @property
    def index(self) -> int:
        """Its number."""
        ...

    def pixels(self) -> npt.NDArray[np.uint8]:
        """(H, W, 3) uint8."""
        ...

    def mask(self, label: int) -> npt.NDArray[np.bool_]:
        """(H, W) bool of one label."""
        ...


@dataclass(frozen=True)
class Entry:
    """One image with the files of its mask.

    Attributes:
        name: Name within the data set, unique.
        image: Image file.
        masks: Mask files; several are merged.
        group: What must stay on one side of a split.
        label: Value of one object in a label map; None takes the whole mask.
        role: The part of a published split: `"train"`, `"validation"` or `"test"`; None where there is none.
        component: Number of one connected part of the mask, from 1; None takes all of it.
        region: An object that is drawn in a table, in place of mask files.
        part: A plane of a volume, in place of the whole files; `label` is the object's value in it.
        spacing_mm: Millimetres from row to row and from column to column by a manifest; None takes the file's own.
    """

    name: str
    image: Path
    masks: tuple[Path, ...]
    group: str
    label: int | None = None
    role: str | None = None
    component: int | None = None
    region: Drawn | None = None
    part: Part | None = None
    spacing_mm: tuple[float, float] | None = None


@dataclass
class Listing:
    """What a scan found.

    Attributes:
        entries: Images with masks.
        problems: Kind of problem to the files (or rows) that have it.
        notes: What was left out on purpose, with counts.
        unpaired: The files that the problems of pairing are about, each with what is wrong with it.
    """

    entries: list[Entry] = field(default_factory=list)
    problems: dict[str, list[str]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    unpaired: dict[Path, str] = field(default_factory=dict)

    def report(self, kind: str, what: str, *files: Path) -> None:
        """Add one problem, and the files that it is about."""
        self.problems.setdefault(kind, []).append(what)
        self.unpaired |= dict.fromkeys(files, kind)

    def add(self, other: "Listing") -> None:
        """Append what another scan found."""
        self.entries += other.entries
        self.notes += other.notes
        self.unpaired |= other.unpaired
        for kind, what in other.problems.items():
            self.problems.setdefault(kind, []).extend(what)


def is_file(path: Path) -> bool:
    """Whether there is a file; a name that no file system takes is none."""
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False


def files_of(place: Path) -> list[Path]:
    """Return the image files of a folder, sorted by name; no folder, no files."""
    return sorted(path for path in place.iterdir() if is_image_file(path)) if place.is_dir() else []


def files_below(place: Path) -> list[tuple[str, Path]]:
    """Return the image files of a folder and of those in it: key (`train/a`: sub-folders and stem) and path, sorted."""
    return [(_key(place, path), path) for path in _walk(place) if is_image_file(path)]


def report_others(place: Path, listing: Listing) -> None:
    """Say which files of an image folder are no images: as problems where they may hold some, else as a note."""
    others = []
    for path in _walk(place):
        if is_image_file(path):
            continue
        name = path.name.lower()
        if why := next((why for ends, why in _OTHERS.items() if name.endswith(ends)), None):
            listing.report(CANNOT_BE_READ, f"{path}: {why}", path)
        elif not name.endswith(_SIDE_FILES):
            others.append(path.relative_to(place.parent).as_posix())
    if others:
        listing.notes.append(f"left out {len(others)} files that are no images: {', '.join(others)}")


def _walk(place: Path) -> Iterator[Path]:
    """Files below a folder, in order of their paths; links are followed once, hidden files and folders are passed."""
    found, seen = [], set()
    for root, folders, files in os.walk(place, followlinks=True):
        real = os.path.realpath(root)
        folders[:] = [] if real in seen else [each for each in folders if not each.startswith((".", "__MACOSX"))]
        if real not in seen:
            found += [Path(root, each) for each in files if not each.startswith(".")]
        seen.add(real)
    return iter(sorted(found))


def _key(place: Path, path: Path) -> str:
    inner = composed(path.parent.relative_to(place).as_posix())
    return stem_of(path) if inner == "." else f"{inner}/{stem_of(path)}"


def child(root: Path, *names: str) -> Path | None:
    """Return the first sub-folder that has one of the names, whatever their case."""
    folders = {p.name.lower(): p for p in sorted(root.iterdir()) if p.is_dir()} if root.is_dir() else {}
    return next((folders[name] for name in names if name in folders), None)


def pair(images: Iterable[tuple[str, Path]], masks: Iterable[tuple[str, Path]], merge: bool = False) -> Listing:
    """Pair image and mask files by key: entries in order of the images, each its own group.

    Equal keys come first, then those that differ in case, in words that say what a file is (`a_mask`, `a_segmentation`,
    `mask_a`, `image_a`, `a.jpg.png`), and where one side alone has sub-folders in them. Only what is unambiguous is
    paired; all else is a problem. Several masks of one image are one sample where they are to be merged, or numbered
    (`a_mask`, `a_mask_1`); otherwise they are a problem.
    """
    listing = Listing()
    paths: dict[str, Path] = {}
    twice = set()
    for key, path in images:
        name = composed(key)
        if name in paths:
            twice.add(name)
            listing.report(TWO_IMAGES, f"{paths[name]} and {path}", paths[name], path)
        paths.setdefault(name, path)
    left = [(composed(key), path) for key, path in masks]
    known = {folded(name) for name in paths}
    # of these nobody knows which of two images they belong to
    unclear = [(key, path) for key, path in left if with_number(key) in known and folded(key) not in known]
    found = _matched(list(paths), [each for each in left if each not in unclear])
    taken = {path for several in found.values() for _, path in several}
    owner = {folded(key): key for key in found}
    for key, path in left:
        of = None if (key, path) in unclear else owner.get(without_mask_words(key))
        if path in taken:
            continue
        # a second mask, though the first one has the better name
        if of is not None:
            found[of].append((key, path))
        else:
            listing.report(NO_IMAGE, str(path), path)
    united = 0
    for name, path in paths.items():
        several = found.get(name, [])
        files = tuple(file for _, file in several)
        if name in twice:
            # whose mask it is, nobody knows
            listing.unpaired |= dict.fromkeys(files, TWO_IMAGES)
            continue
        if not several:
            listing.report(NO_MASK, str(path), path)
        elif len(several) > 1 and not (merge or are_numbered(key for key, _ in several)):
            listing.report(SEVERAL_MASKS, f"{path}: {', '.join(file.name for file in files)}", path, *files)
        else:
            united += len(several) > 1
            listing.entries.append(Entry(name, path, files, name))
    if united and not merge:
        listing.notes.append(f"united the numbered masks of {united} images: each image is one object")
    return listing


def _matched(images: list[str], masks: list[tuple[str, Path]]) -> dict[str, list[tuple[str, Path]]]:
    """Return the masks of each image that has some, tier after tier; a key that two images share is passed over."""
    found: dict[str, list[tuple[str, Path]]] = {}
    for of_image, of_mask in TIERS:
        wanted = _by_key(((name, name) for name in images if name not in found), of_image)
        offered = _by_key(((key, (key, path)) for key, path in masks), of_mask)
        for key, names in wanted.items():
            if len(names) == 1 and key in offered:
                found[names[0]] = offered[key]
        taken = {path for several in found.values() for _, path in several}
        masks = [(key, path) for key, path in masks if path not in taken]
    return found


def _by_key(items: Iterable[tuple[str, T]], of: Key) -> dict[str, list[T]]:
    grouped: dict[str, list[T]] = defaultdict(list)
    for key, item in items:
        if (found := of(key)) is not None:
            grouped[found].append(item)
    return grouped
