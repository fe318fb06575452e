"""How known data sets lie in folders: each layout lists its images with their masks, and what does not pair.

A layout looks at names only; `folder` reads the files. Adding one means one function under `register_layout`.
"""

import re
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from ..._support.errors import DataError, WordsError
from ..._support.registry import BUILT_IN, Registry, failures_named, unknown_name
from ..images import is_image_file
from ..splits.manifest import abridged


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
    """Pair image and mask files by key: entries in order of the images, each its own group.

    Several masks of one key are one sample where they are to be merged; otherwise they are a problem.
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
    """

    name: str
    title: str
    matches: Callable[[Path], bool]
    scan: Scan
    labels: bool = False


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
    name: str, *, title: str, matches: Callable[[Path], bool] = _never, labels: bool = False
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

    Raises:
        RegistryError: The name is badly formed or taken.
    """
    return REGISTRY.register(name, prepare=lambda _, scan: Layout(name, title, matches, scan, labels))


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


def _has(*alternatives: tuple[str, ...]) -> Callable[[Path], bool]:
    return lambda root: all(child(root, *names) is not None for names in alternatives)


def _two_folders(image_names: tuple[str, ...], mask_names: tuple[str, ...]) -> Callable[[Path], Listing]:
    """Return a scan of two folders with equal stems; masks may also be called `<stem>_mask` and the like."""

    def scan(root: Path) -> Listing:
        places = [child(root, *image_names), child(root, *mask_names)]
        if places[0] is None or places[1] is None:
            raise DataError(f"{root}: expected the folders {image_names[0]}/ and {mask_names[0]}/")
        images = [(path.stem, path) for path in files_of(places[0])]
        stems = {stem for stem, _ in images}
        masks = [(_mask_key(path.stem, stems), path) for path in files_of(places[1])]
        return pair(images, masks)

    return scan


def _mask_key(stem: str, stems: set[str]) -> str:
    if stem in stems:
        return stem
    return re.sub(r"[ _-]?(mask|segmentation|seg|gt|label)$", "", stem, flags=re.IGNORECASE)


def _scan_clinicdb(root: Path) -> Listing:
    """List Original/ and Ground Truth/, at the top or within PNG/ or TIF/ (the same frames twice: PNG is taken).

    When told, also images/ and masks/ with the original frame numbers. The group is the video sequence.
    """
    scan = _two_folders((*_ORIGINAL, *_IMAGES), (*_GROUND_TRUTH, *_MASKS))
    listing = scan(next((place for place in _clinicdb_places(root) if _HAS_CLINICDB(place)), root))
    listing.entries = [replace(entry, group=_sequence_of(entry)) for entry in listing.entries]
    return listing


def _clinicdb_places(root: Path) -> list[Path]:
    places = (root, child(root, "png"), child(root, "tif", "tiff"))
    return [place for place in places if place is not None]


def _sequence_of(entry: Entry) -> str:
    """Return the video sequence of a frame by its number, or the frame's own name if it has no known number."""
    frame = int(entry.name) if entry.name.isdecimal() else 0
    if not 1 <= frame <= _LAST_FRAME:
        return entry.group
    return f"seq{bisect_right(_FIRST_FRAMES, frame):02d}"


def _scan_colondb(root: Path) -> Listing:
    """List frames and masks by number: `12.png`, `p12.png` or `p12mask.png`, in two folders or together in one.

    In one folder, `p12` is the mask of frame `12`, as in the original distribution; its further maps (`c12`: contour,
    `m12`: black border) are not used.
    """
    image_folder, mask_folder = child(root, *_IMAGES), child(root, *_MASKS)
    if image_folder and mask_folder:
        return pair(_numbered(files_of(image_folder)), _numbered(files_of(mask_folder)))
    together = files_of(root)
    masks = [path for path in together if re.fullmatch(r"p0*\d+", path.stem, re.IGNORECASE)]
    images = [path for path in together if path.stem.isdigit()]
    return pair(_numbered(images), _numbered(masks))


def _numbered(paths: list[Path]) -> list[tuple[str, Path]]:
    keys = [re.fullmatch(r"[a-z]*[ _-]?0*(\d+)[ _-]?(?:mask|gt)?", path.stem, re.IGNORECASE) for path in paths]
    return [(key[1] if key else path.stem, path) for key, path in zip(keys, paths, strict=True)]


def _scan_busi(root: Path) -> Listing:
    """List benign/ and malignant/; `name (1)_mask.png`, `name (1)_mask_1.png`, ... of one image are merged."""
    listing = Listing()
    for place in (child(root, "benign"), child(root, "malignant")):
        files = files_of(place) if place else []
        masks = [path for path in files if _BUSI_MASK.search(path.stem)]
        images = [path for path in files if path not in set(masks)]
        listing.add(
            pair(
                [(f"{path.parent.name}/{path.stem}", path) for path in images],
                [(f"{path.parent.name}/{_BUSI_MASK.sub('', path.stem)}", path) for path in masks],
                merge=True,
            )
        )
    normal = child(root, "normal")
    skipped = [path for path in files_of(normal) if not _BUSI_MASK.search(path.stem)] if normal else []
    if skipped:
        listing.notes.append(f"skipped {len(skipped)} images of normal/: they show no lesion")
    return listing


def _scan_isic(root: Path) -> Listing:
    """List `*_Input/ISIC_x.jpg` with `*_GroundTruth/ISIC_x_segmentation.png`, all parts together."""
    images = [path for place in _isic_folders(root, "_input") for path in files_of(place)]
    masks = [path for place in _isic_folders(root, "_groundtruth") for path in files_of(place)]
    return pair(
        [(path.stem, path) for path in images if not path.stem.endswith("_superpixels")],
        [(path.stem.removesuffix("_segmentation"), path) for path in masks],
    )


def _isic_folders(root: Path, ending: str) -> list[Path]:
    return sorted(p for p in root.iterdir() if p.is_dir() and p.name.lower().endswith(ending)) if root.is_dir() else []


def _is_isic(root: Path) -> bool:
    return bool(_isic_folders(root, "_input") and _isic_folders(root, "_groundtruth"))


def _is_colondb(root: Path) -> bool:
    mask_folder = child(root, *_MASKS)
    if mask_folder and child(root, *_IMAGES):
        names = [path.stem for path in files_of(mask_folder)]
        return bool(names) and all(re.fullmatch(r"p\d+[ _-]?(mask)?", name, re.IGNORECASE) for name in names)
    stems = {path.stem.lower() for path in files_of(root)}
    return any(stem.isdigit() and f"p{stem}" in stems for stem in stems)


_BUSI_MASK = re.compile(r"_mask(_\d+)?$", re.IGNORECASE)
_IMAGES, _MASKS = ("images", "image"), ("masks", "mask")
_ORIGINAL, _GROUND_TRUTH = ("original",), ("ground truth", "ground_truth", "groundtruth")
# first frames of the 29 video sequences of CVC-ClinicDB's 612 frames, as published with the data set
_FIRST_FRAMES = (
    *(1, 26, 51, 68, 79, 104, 127, 152, 178, 200, 206, 228, 253, 278, 298),
    *(318, 343, 364, 384, 409, 429, 448, 467, 479, 504, 529, 547, 572, 592),
)
_LAST_FRAME = 612
_HAS_CLINICDB = _has(_ORIGINAL, _GROUND_TRUTH)
_HAS_PAIRS = _has(_IMAGES, _MASKS)


# in the order of detection: the more particular first
register_layout(
    "medsam_npy",
    title="imgs/*.npy with label maps in gts/*.npy, a sample a label",
    matches=_has(("imgs",), ("gts",)),
    labels=True,
)(_two_folders(("imgs",), ("gts",)))
register_layout(
    "cvc_clinicdb",
    title="Original/ and Ground Truth/, frames numbered 1 to 612",
    matches=lambda root: any(map(_HAS_CLINICDB, _clinicdb_places(root))),
)(_scan_clinicdb)
register_layout(
    "busi",
    title="benign/ and malignant/ with `name (1).png`, `name (1)_mask.png`; normal/ is skipped",
    matches=lambda root: child(root, "benign") is not None or child(root, "malignant") is not None,
)(_scan_busi)
register_layout("isic2018", title="*_Input/ISIC_x.jpg and *_GroundTruth/ISIC_x_segmentation.png", matches=_is_isic)(
    _scan_isic
)
register_layout("cvc_colondb", title="frames and masks by number: 12, p12 or p12mask", matches=_is_colondb)(
    _scan_colondb
)
register_layout(
    "instances",
    title="images/ with label maps in instances/, a sample a label",
    matches=_has(_IMAGES, ("instances",)),
    labels=True,
)(_two_folders(_IMAGES, ("instances",)))
register_layout("kvasir_seg", title="images/ and masks/ with equal stems, JPEG masks")(_two_folders(_IMAGES, _MASKS))
register_layout("plain", title="images/ and masks/ with equal stems", matches=_HAS_PAIRS)(_two_folders(_IMAGES, _MASKS))
