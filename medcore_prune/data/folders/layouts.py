"""Layouts of folders by name: each lists a folder's images with their masks, and what does not pair.

A layout looks at names only; `folder` reads the files. Adding one means one function under `register_layout`.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

from ..._support.errors import DataError, WordsError
from ..._support.registry import BUILT_IN, Registry, failures_named, unknown_name
from ..._support.words import few_of, lines_of
from ..masks import MaskThreshold
from .listing import Entry, Listing, child, files_of, pair
from .names import role_of
from .two_folders import IMAGES, MASKS

__all__ = ["LAYOUTS", "Entry", "Layout", "Listing", "child", "detect", "files_of", "pair", "register_layout"]

_LIKELIEST = 3

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

    Where none does the error names a folder that would: one within it, as archives often hold one, or that above, where
    the images' or the masks' own was given. It lists the likeliest layouts, a line each, with what they lack.
    """
    found = _first_match(root)
    if found is not None:
        return found
    there = sorted(place.name + "/" * place.is_dir() for place in root.iterdir())
    if not there:
        titles = {name: layout.title for name, layout in LAYOUTS.items()}
        raise DataError(f"{root}: the folder is empty; known layouts are{lines_of(titles)}")
    others = [place for place in sorted(root.iterdir()) if place.is_dir()]
    if root.resolve().name.lower() in (*IMAGES, *MASKS):
        others.append(root.resolve().parent)
    meant = next((place for place in others if _first_match(place)), None)
    hint = f"did you mean {meant}? " if meant else ""
    raise DataError(f"{root}: recognised no layout in {few_of(there)}; {hint}{_likeliest(root)}")


def _likeliest(root: Path) -> str:
    """The layouts of which most folders are there, the likeliest first, and what each lacks; the names of the others.

    Of layouts that are recognised by the same there is the first alone, and none that is never recognised.
    """
    first_of: dict[Callable[[Path], bool], Layout] = {_never: LAYOUTS["plain"]}
    for layout in LAYOUTS.values():
        first_of.setdefault(layout.matches, layout)
    parts = {layout.name: _folders_of(layout) for layout in first_of.values()}
    lacking = {name: [each for each in of if not _has_one(root, each)] for name, of in parts.items()}
    there = {name: len(parts[name]) - len(lacking[name]) for name in parts}
    near = [name for name in parts if there[name]]
    near = sorted(near, key=lambda name: (-there[name], len(lacking[name]), name != "plain"))[:_LIKELIEST]
    near += [name for name in ("plain", "together") if name not in near]
    said = {name: f"{_lacks(lacking[name])} ({LAYOUTS[name].title})" for name in near}
    others = ", ".join(name for name in LAYOUTS if name not in near)
    return f"the likeliest, and what is missing:{lines_of(said)}\n  others, by name: {others}"


def _folders_of(layout: Layout) -> list[list[str]]:
    """Folders that a layout's title names at the top, each as the names that it may have."""
    found: list[list[str]] = []
    # what comes after these words is within the folders, or beside the point
    title = re.split(r" \(or |, each |;", layout.title.replace("Ground Truth", "Ground_Truth"))[0]
    before = ""
    for word in title.split():
        if "/" in word:
            name = word.split("/")[0].replace("_Truth", " Truth")
            found[-1:] = [[*found[-1], name]] if found and before == "or" else [*found[-1:], [name]]
        before = word
    return found


def _has_one(root: Path, names: Sequence[str]) -> bool:
    wanted = [name.lower() for name in names]
    wanted += [alias for of in (IMAGES, MASKS) if of[0] in wanted for alias in of]
    roles = {role for name in names if (role := role_of([name]))}
    folders = [place.name.lower() for place in root.iterdir() if place.is_dir()]
    return any(fnmatch(folder, name) for folder in folders for name in wanted) or any(
        role_of([folder]) in roles for folder in folders
    )


def _lacks(folders: Sequence[Sequence[str]]) -> str:
    if not folders:
        return "no files that are named so"
    return "no " + ", no ".join(" or ".join(f"{name}/" for name in names) for names in folders)


def _first_match(root: Path) -> str | None:
    for layout in sorted(LAYOUTS.values(), key=lambda layout: REGISTRY.info(layout.name).origin == BUILT_IN):
        with failures_named(f"layout {layout.name}", DataError):
            if layout.matches(root):
                return layout.name
    return None
