"""Layouts of folders by name: each lists a folder's images with their masks, and what does not pair.

A layout looks at names only; `folder` reads the files. Adding one means one function under `register_layout`.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from ..._support.errors import DataError, WordsError
from ..._support.registry import BUILT_IN, Registry, failures_named, unknown_name
from ..masks import MaskThreshold
from ..splits.manifest import abridged
from .listing import Entry, Listing, child, files_of, pair

__all__ = ["LAYOUTS", "Entry", "Layout", "Listing", "child", "detect", "files_of", "pair", "register_layout"]


Scan = Callable[[Path], Listing]


@dataclass(frozen=True)
class Layout:
    """A way to lay out images and masks.

    Attributes:
        name: Name among the layouts.
        title: What a user sees in a list of layouts.
        matches: Whether a folder looks like it.
        scan: Lists the folder.
        labels: Masks are label maps: each value is a sample of its own.
        mask_threshold: How masks are cut where their values mislead, see `read_mask`: 0/255 masks with stray values.
        known_faults: Kinds of problems that the published data have: what has one is left out.
    """

    name: str
    title: str
    matches: Callable[[Path], bool]
    scan: Scan
    labels: bool = False
    mask_threshold: MaskThreshold = None
    known_faults: tuple[str, ...] = ()


REGISTRY: Registry[Layout] = Registry("layout", "medcore_prune.data.folders", "medcore_prune.layouts")


class _Layouts(Mapping[str, Layout]):
    """The registered layouts by name, built-in ones first, in the order of detection."""

    def __getitem__(self, name: str) -> Layout:
        if name not in REGISTRY:
            raise KeyError(name)
        return REGISTRY.get(name)

    def __iter__(self) -> Iterator[str]:
        return iter([layout.name for layout in REGISTRY.values()])

    def __len__(self) -> int:
        return len(REGISTRY.values())


LAYOUTS: Mapping[str, Layout] = _Layouts()


def _never(_: Path) -> bool:
    return False


def register_layout(
    name: str,
    *,
    title: str,
    matches: Callable[[Path], bool] = _never,
    labels: bool = False,
    mask_threshold: MaskThreshold = None,
    known_faults: tuple[str, ...] = (),
) -> Callable[[Scan], Scan]:
    """Return a decorator of a function that lists a folder's images with their masks.

    It gets the folder, looks at names only, and returns a `Listing`: `files_of` gives a folder's image files, `child` a
    sub-folder by name in any case, and `pair` the listing of images and masks by key, with what does not pair.

    Args:
        name: Lower-case letters, digits and underscores, a letter first.
        title: What a user sees in a list of layouts.
        matches: Whether a folder looks like it, for `"auto"`; layouts from outside are asked before built-in ones. By
            default it has to be named.
        labels: Masks are label maps: each value is a sample of its own.
        mask_threshold: How masks are cut where their values mislead, see `read_mask`: 0/255 masks with stray values.
        known_faults: Kinds of problems that the published data have, `"sizes differ"` or `"empty mask"`: what has one
            is left out, with a note.

    Raises:
        RegistryError: The name is badly formed or taken.
    """

    def prepare(_: str, scan: Scan) -> Layout:
        return Layout(name, title, matches, scan, labels, mask_threshold, known_faults)

    return REGISTRY.register(name, prepare=prepare)


def scan_folder(root: Path, layout: str) -> tuple[Layout, Listing]:
    """List a folder as a layout has it, or as the one that it looks like."""
    if layout != "auto" and layout not in LAYOUTS:
        raise WordsError(unknown_name("layout", layout, ["auto", *LAYOUTS]))
    found = LAYOUTS[detect(root) if layout == "auto" else layout]
    with failures_named(f"layout {found.name}", DataError):
        listing = found.scan(root)
    if not isinstance(listing, Listing):
        raise DataError(f"layout {found.name}: expected its function to return a Listing, got {type(listing).__name__}")
    return found, listing


def detect(root: Path) -> str:
    """Return the name of the first layout that a folder looks like.

    Where none does the error names a sub-folder that would, as archives often hold one folder.
    """
    found = _first_match(root)
    if found is not None:
        return found
    inner = next((place for place in sorted(root.iterdir()) if place.is_dir() and _first_match(place)), None)
    hint = f"did you mean {inner}? " if inner else ""
    known = "; ".join(f"{name}: {layout.title}" for name, layout in LAYOUTS.items())
    there = sorted(place.name + "/" * place.is_dir() for place in root.iterdir())
    if not there:
        raise DataError(f"{root}: the folder is empty; known layouts are {known}")
    raise DataError(f"{root}: recognised no layout in {abridged(there)}; {hint}{_likeliest(root)}")


def _likeliest(root: Path) -> str:
    """The layouts of which most folders are there, and what they lack; of the others the names alone."""
    wanted = {name: re.findall(r"([\w*]+(?: Truth)?)/", layout.title) for name, layout in LAYOUTS.items()}
    lacking = {name: [part for part in parts if child(root, part.lower()) is None] for name, parts in wanted.items()}
    near = [name for name in LAYOUTS if len(lacking[name]) < len(wanted[name])] or ["plain"]
    near = sorted(near, key=lambda name: (len(lacking[name]), name != "plain"))[:2]
    told = [
        f"{name} ({LAYOUTS[name].title}){' without ' + '/, '.join(lacking[name]) + '/' if lacking[name] else ''}"
        for name in near
    ]
    return f"likeliest {' or '.join(told)}; others are {', '.join(name for name in LAYOUTS if name not in near)}"


def _first_match(root: Path) -> str | None:
    for layout in sorted(LAYOUTS.values(), key=lambda layout: REGISTRY.info(layout.name).origin == BUILT_IN):
        with failures_named(f"layout {layout.name}", DataError):
            if layout.matches(root):
                return layout.name
    return None
