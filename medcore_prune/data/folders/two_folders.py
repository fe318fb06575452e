"""Images in one folder and masks in another, also once for each part of a split."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from ..._support.errors import DataError
from .listing import Listing, child, files_below, pair, report_others
from .names import composed, role_of

IMAGES = ("images", "image", "imgs", "img")
MASKS = (
    *("masks", "mask", "labels", "label", "segmentations", "segmentation"),
    *("ground truth", "ground_truth", "groundtruth", "gt", "annotations"),
)


def has(*alternatives: tuple[str, ...]) -> Callable[[Path], bool]:
    """Return whether a folder has sub-folders, one of each list of names."""
    return lambda root: all(child(root, *names) is not None for names in alternatives)


def two_folders(image_names: tuple[str, ...], mask_names: tuple[str, ...]) -> Callable[[Path], Listing]:
    """Return a scan of two folders, and of what lies in them, whose names `pair` compares.

    Where sub-folders are called train, val or test, they are the parts of a split.
    """

    def scan(root: Path) -> Listing:
        images, masks = child(root, *image_names), child(root, *mask_names)
        if images is None or masks is None:
            raise DataError(f"{root}: expected the folders {image_names[0]}/ and {mask_names[0]}/")
        listing = pair(files_below(images), files_below(masks))
        listing.entries = [replace(entry, role=role_of(entry.name.split("/")[:-1])) for entry in listing.entries]
        for place in (images, masks):
            report_others(place, listing)
        ignored = [p for name in mask_names if (p := child(root, name)) and p != masks]
        if ignored:
            listing.notes.append(f"masks are those of {masks.name}/; not read: {_folders(ignored)}")
        return listing

    return scan


def _folders(places: list[Path]) -> str:
    return ", ".join(sorted(f"{place.name}/" for place in places))


_pairs = two_folders(IMAGES, MASKS)


def parts_of(root: Path) -> list[Path]:
    """Return the sub-folders that are called as a part of a split and hold images and masks."""
    inner = sorted(place for place in root.iterdir() if place.is_dir()) if root.is_dir() else []
    return [place for place in inner if role_of([place.name]) and has(IMAGES, MASKS)(place)]


def scan_parts(root: Path) -> Listing:
    """List train/, validation/ and test/, each with images/ and masks/ (or labels/); names begin with the part's."""
    whole = Listing()
    parts = parts_of(root)
    for place in parts:
        found = _pairs(place)
        part = composed(place.name)
        found.entries = [
            replace(e, name=f"{part}/{e.name}", group=f"{part}/{e.group}", role=role_of([place.name]))
            for e in found.entries
        ]
        found.notes = [f"{part}/: {note}" for note in found.notes]
        whole.add(found)
    for place in sorted(root.iterdir()) if root.is_dir() else []:
        if place.is_dir() and place not in parts and role_of([place.name]):
            images = files_below(place)
            whole.notes.append(f"left out {len(images)} images of {place.name}/: it has no folder of masks")
    return whole
