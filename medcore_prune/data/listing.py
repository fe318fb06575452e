"""What a scan of a folder finds: images with the files of their masks, and what does not pair."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from .images import is_image_file


@dataclass(frozen=True)
class Entry:
    """One image with the files of its mask.

    Attributes:
        name: Name within the data set, unique.
        image: Image file.
        masks: Mask files; several are merged.
        group: What must stay on one side of a split.
        label: Value of one object in a label map; None takes the whole mask.
    """

    name: str
    image: Path
    masks: tuple[Path, ...]
    group: str
    label: int | None = None


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


def child(root: Path, *names: str) -> Path | None:
    """Return the first sub-folder that has one of the names, whatever their case."""
    folders = {p.name.lower(): p for p in sorted(root.iterdir()) if p.is_dir()} if root.is_dir() else {}
    return next((folders[name] for name in names if name in folders), None)


def pair(images: Iterable[tuple[str, Path]], masks: Iterable[tuple[str, Path]], merge: bool = False) -> Listing:
    """Pair image and mask files by key.

    Args:
        images: Key and file of each image.
        masks: Key and file of each mask.
        merge: Several masks of one key are one sample; otherwise they are a problem.

    Returns:
        Entries in order of the images, each its own group.
    """
    listing = Listing()
    masks_of: dict[str, list[Path]] = {}
    for key, path in masks:
        masks_of.setdefault(key, []).append(path)
    seen: dict[str, Path] = {}
    for key, path in images:
        if key in seen:
            listing.report("two images of one name", f"{seen[key]} and {path}", seen[key], path)
            continue
        seen[key] = path
        found = masks_of.get(key, [])
        if not found:
            listing.report("image without mask", str(path), path)
        elif len(found) > 1 and not merge:
            listing.report("several masks for one image", f"{path}: {', '.join(p.name for p in found)}", path, *found)
        else:
            listing.entries.append(Entry(key, path, tuple(found), key))
    for key, paths in masks_of.items():
        if key not in seen:
            for path in paths:
                listing.report("mask without image", str(path), path)
    return listing
