"""Folders of volumes: a sample is one label in one slice, a volume's slices stay on one side of a split."""

from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path

import numpy as np

from ..._support.errors import DataError
from ..volumes import Slice, nifti_grid, nifti_planes, nifti_spacing, npz_planes
from .listing import CANNOT_BE_READ, SIZES_DIFFER, Entry, Listing, child, pair
from .names import composed, role_of

_NIFTI = (".nii", ".nii.gz")
_IMAGES, _LABELS = ("imagestr", "images", "imgs", "image"), ("labelstr", "labels", "masks", "gts", "label", "mask")


def is_nifti(root: Path) -> bool:
    """Whether a folder of images has NIfTI files, beside one of labels."""
    images, labels = child(root, *_IMAGES), child(root, *_LABELS)
    return images is not None and labels is not None and bool(_files(images, *_NIFTI))


def scan_nifti(axis: int) -> Callable[[Path], Listing]:
    """Return a scan of `images/` and `labels/` (or nnU-Net's `imagesTr/`, `labelsTr/`) for slices across an axis."""

    def scan(root: Path) -> Listing:
        images, labels = child(root, *_IMAGES), child(root, *_LABELS)
        if images is None or labels is None:
            raise DataError(f"{root}: expected the folders images/ and labels/")
        named = dict(_files(labels, *_NIFTI))
        # nnU-Net numbers the channels of an image: case_0000 is the first of case
        found = [(_case(name, named), path) for name, path in _files(images, *_NIFTI)]
        others = [path.name for case, path in found if case is None]
        listing = pair([(case, path) for case, path in found if case is not None], named.items())
        if others:
            listing.notes.append(f"left out further channels: {', '.join(others)}")
        volumes, listing.entries = listing.entries, []
        read = partial(_read_nifti, axis=axis)
        for volume in volumes:
            _list_slices(listing, volume.name, volume.image, volume.masks[0], read, axis)
        return listing

    return scan


def _read_nifti(path: Path, labels: bool, axis: int) -> np.ndarray:
    return nifti_planes(path, labels, axis)


def _case(name: str, labels: Iterable[str]) -> str | None:
    if name in labels or name[-5:-4] != "_" or not name[-4:].isdecimal():
        return name
    return name[:-5] if name.endswith("_0000") else None


def is_npz(root: Path) -> bool:
    """Whether there are `.npz` files."""
    return bool(_files(root, ".npz"))


def scan_npz(root: Path) -> Listing:
    """List MedSAM-Lite's files: `imgs` and `gts` in each."""
    listing = Listing()
    for name, path in _files(root, ".npz"):
        _list_slices(listing, name, path, path, npz_planes, None)
    return listing


def _list_slices(
    listing: Listing,
    name: str,
    image: Path,
    labels: Path,
    read: Callable[[Path, bool], np.ndarray],
    axis: int | None,
) -> None:
    """Add each label of each slice that has one."""
    try:
        spacing = None if axis is None else nifti_spacing(image, axis)
        if axis is not None and not _same_grid(image, labels):
            listing.report(SIZES_DIFFER, f"{image} and {labels} are not of one grid in the body")
            return
        planes = read(labels, True)
        shape = read(image, False).shape[:3]
    except DataError as error:
        listing.report(CANNOT_BE_READ, str(error))
        return
    if shape != planes.shape:
        listing.report(SIZES_DIFFER, f"{image} {shape}, labels {planes.shape}")
        return
    empty = 0
    for index, plane in enumerate(planes):
        present = [int(value) for value in np.unique(plane) if value]
        empty += not present
        for label in present:
            own = name if len(planes) == 1 else f"{name}/{index:04d}"
            own += f"#{label}" if len(present) > 1 else ""
            part = Slice(image, labels, read, index)
            listing.entries.append(
                Entry(own, image, (labels,), name, label, role_of(name.split("/")), part=part, spacing_mm=spacing)
            )
    if empty:
        listing.notes.append(f"{name}: left out {empty} of {len(planes)} slices without a label")


def _same_grid(image: Path, labels: Path) -> bool:
    (shape, place), (label_shape, label_place) = nifti_grid(image), nifti_grid(labels)
    return shape == label_shape and np.allclose(place, label_place, rtol=1e-3, atol=1e-2)


def _files(place: Path, *ends: str) -> list[tuple[str, Path]]:
    """Names without their ends, and paths, sorted."""
    found = []
    for path in sorted(place.iterdir()) if place.is_dir() else []:
        end = max((end for end in ends if path.name.lower().endswith(end)), key=len, default=None)
        if end is not None and not path.name.startswith("."):
            found.append((composed(path.name[: -len(end)]), path))
    return found
