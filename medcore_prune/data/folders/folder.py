"""Images with masks from a folder: everything is checked before the first use, pixels are read when asked for."""

import os
import re
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path

from ..._support.errors import DataError, DataWarning
from ..images import MaskThreshold, image_spacing
from ..prompts import Box, box_from_mask, boxes_from_csv
from ..samples import Sample
from .check import (
    Objects,
    check_boxes,
    check_files,
    check_names,
    check_roles_of,
    for_each,
    image_of,
    leave_out,
    mask_of,
    refuse,
)
from .contents import Contents, Hashes, Source
from .layouts import scan_folder
from .listing import BAD_FILES, Entry
from .looks import Looks
from .manifest import honour_manifest
from .names import composed
from .reading import Reading

_MANY_FRAMES = 20


@dataclass(frozen=True)
class FolderSet:
    """A data set that reads its images from files; a `SampleSet`.

    Attributes:
        name: Name of the data set.
        root: The folder.
        entries: The files of each sample.
        notes: What was left out on purpose, with counts.
        boxes: Boxes that replace those of the masks, by sample name.
        mask_threshold: How masks are cut into object and background, see `read_mask`.
        synthetic: Whether images among them are drawn by this package.
    """

    name: str
    root: Path
    entries: tuple[Entry, ...]
    notes: tuple[str, ...] = ()
    boxes: Mapping[str, Box] = field(default_factory=dict)
    mask_threshold: MaskThreshold = None
    synthetic: bool = False

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

    @property
    def roles(self) -> Sequence[str | None]:
        """The part of a published split that each sample is in, in order; None where there is none."""
        return [entry.role for entry in self.entries]

    def __len__(self) -> int:
        return len(self.entries)

    def __getitem__(self, index: int) -> Sample:
        entry = self.entries[index]
        image, mask = image_of(entry), mask_of(entry, self.mask_threshold)
        self._contents.require_as_told(index, image, mask)
        box = self.boxes.get(entry.name) or box_from_mask(mask)
        spacing = entry.spacing_mm or (image_spacing(entry.image) if entry.part is None else None)
        return Sample(self.name, entry.name, image, mask, box, entry.group, spacing)

    def __iter__(self) -> Iterator[Sample]:
        return (self[index] for index in range(len(self)))

    def hashes(self) -> Sequence[str]:
        """SHA-256 of each sample's image, mask and given box (hex), in order; reads files that are new or changed.

        Raises:
            DataError: Files that cannot be read, all in one message.
        """
        return [each.sample for each in self._hashes]

    def image_keys(self) -> Sequence[str]:
        """The file of each sample's image, and its plane there, in order."""
        return [f"{entry.image}#{entry.part.index}" if entry.part else str(entry.image) for entry in self.entries]

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
        def visit_all(visit: Callable[[Source], None], sources: Sequence[Source]) -> None:
            for_each(visit, sources, f"hashing {self.name}")

        return self._contents.hashes(visit_all, lambda found: refuse(self.root, found))

    @cached_property
    def _contents(self) -> Contents:
        return Contents(self.entries, self.boxes, image_of, partial(mask_of, threshold=self.mask_threshold))


def folder(
    path: str | os.PathLike[str],
    layout: str = "auto",
    name: str | None = None,
    boxes: str | os.PathLike[str] | None = None,
    *,
    mask_threshold: MaskThreshold = None,
    skip_bad: bool = False,
    instances: bool = False,
    smallest_px: int = Reading().smallest_px,
) -> FolderSet:
    """Open a folder of images and masks as a data set, after checking all of it.

    Every mask is read once, of images the header, and the whole file of a few and where its end is missing. What looks
    as if something else was meant, such as masks that are dark on white, is in `notes`, and warned of (`DataWarning`).
    A `manifest.csv` in the folder is honoured, see `honour_manifest`. Where the folder says which images are for
    training and which for tests (`train/`, `test/`, a column `split`), `split` keeps that.

    Args:
        path: The folder.
        layout: A name of `LAYOUTS`, or `"auto"` to recognise it.
        name: Name of the data set; the folder's name by default.
        boxes: CSV file of box prompts (`boxes_from_csv`), one for every sample, in place of those of the masks.
        mask_threshold: Stored value above which a mask is object, or `"half"` of its range, see `read_mask`; by default
            the layout's, or what the values tell.
        skip_bad: Leave out what is wrong with single files (unreadable, unpaired, empty, of another size) and use the
            rest; a note names all of it.
        instances: Make each connected part of a mask a sample with a box of its own; label maps have that anyway.
        smallest_px: Parts of fewer pixels are left out, with a note.

    Returns:
        The samples, ordered by file name (or as the manifest has them).

    Raises:
        DataError: No such folder or layout; images without masks, masks without images, unreadable files, empty
            masks, sizes that differ, boxes that are missing, of unknown names, or outside of their image: all of them
            in one message.
    """
    root = Path(path)
    if not root.is_dir():
        raise DataError(f"{root}: expected a folder of images and masks, there is none")
    kind, found = scan_folder(root, layout)
    listing = honour_manifest(root, found, kind.labels)
    check_names(listing)
    threshold = kind.mask_threshold if mask_threshold is None else mask_threshold
    given = {composed(each): box for each, box in boxes_from_csv(boxes).items()} if boxes is not None else {}
    looks = Looks(given)
    checked = check_files(listing, Objects(kind.labels, instances, smallest_px, threshold), looks)
    if boxes is not None:
        check_boxes(checked, given)
    odd = looks.report(checked)
    check_roles_of(checked)
    leave_out(root, checked, BAD_FILES if skip_bad else kind.known_faults)
    refuse(root, checked)
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
    if drawn := looks.synthetic:
        checked.notes.append(
            f"{drawn} image{'s are' if drawn > 1 else ' is'} synthetic, drawn by this package: what is measured on "
            "them says nothing of real ones"
        )
    used = {entry.name: given[entry.name] for entry in checked.entries if entry.name in given}
    found_name = name or root.resolve().name
    return FolderSet(
        found_name, root, tuple(checked.entries), tuple(checked.notes), used, threshold, looks.synthetic > 0
    )


def _may_be_frames(entries: Sequence[Entry]) -> bool:
    """Whether many images are known by a number alone and each is a group of its own."""
    groups = {entry.group for entry in entries}
    numbered = all(re.fullmatch(r"[A-Za-z]?0*\d+", entry.name) for entry in entries)
    return numbered and len(groups) == len(entries) >= _MANY_FRAMES


def _noted(notes: Sequence[str]) -> str:
    return f"; {'; '.join(notes)}" if notes else ""
