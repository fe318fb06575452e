"""Images and masks in one folder, told apart by their names: `a.png` and `a_mask.png`."""

from pathlib import Path

from .listing import Listing, files_below, files_of, pair, report_others
from .names import folded, stem_of, without_mask_words


def scan_together(root: Path) -> Listing:
    """List `a.png` with `a_mask.png`, in the folder and in those in it."""
    images, masks = _told_apart(files_below(root))
    listing = pair(images, masks)
    report_others(root, listing)
    return listing


def has_pairs(root: Path) -> bool:
    """Whether there is an image with its mask beside it, in the folder or in one in it."""
    places = [root, *(place for place in sorted(root.iterdir()) if place.is_dir())]
    return any(_told_apart([(stem_of(path), path) for path in files_of(place)])[1] for place in places)


def _told_apart(files: list[tuple[str, Path]]) -> tuple[list[tuple[str, Path]], list[tuple[str, Path]]]:
    """Images, and the masks that belong to one of them by a word in their names."""
    keys = {folded(key) for key, _ in files}
    masks = [(key, path) for key, path in files if (of := without_mask_words(key)) != folded(key) and of in keys]
    taken = {path for _, path in masks}
    return [each for each in files if each[1] not in taken], masks
