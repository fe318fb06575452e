"""Known data sets as they are published: how their folders lie, and what belongs together in them."""

import re
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from ..csv_table import Row, read_table
from .listing import Entry, Listing, child, files_below, files_of, is_file, pair, report_others
from .names import role_of, stem_of
from .two_folders import IMAGES, MASKS, has, two_folders

ORIGINAL, GROUND_TRUTH = ("original",), ("ground truth", "ground_truth", "groundtruth")
HAS_CLINICDB = has(ORIGINAL, GROUND_TRUTH)
# first frames of the 29 video sequences of CVC-ClinicDB's 612 frames, as published with the data set
_FIRST_FRAMES = (
    *(1, 26, 51, 68, 79, 104, 127, 152, 178, 200, 206, 228, 253, 278, 298),
    *(318, 343, 364, 384, 409, 429, 448, 467, 479, 504, 529, 547, 572, 592),
)
_LAST_FRAME = 612
_FRAMES = (*IMAGES, "etis-laribpolypdb")
_BUSI_MASK = re.compile(r"_mask(_\d+)?$", re.IGNORECASE)
_PH2_IMAGE, _PH2_MASK = "_dermoscopic_image", "_lesion"
_ISIC_IMAGES, _ISIC_MASKS = re.compile(r"_(input|data)$"), re.compile(r"_groundtruth$")
_HAM_IMAGES, _HAM_MASKS = re.compile(r"^ham10000_images"), re.compile(r"^ham10000_segmentations")
_HAM_TABLES = ("HAM10000_metadata.csv", "HAM10000_metadata", "HAM10000_metadata.tab")


def scan_clinicdb(root: Path) -> Listing:
    """List Original/ and Ground Truth/, at the top or within PNG/ or TIF/ (the same frames twice: PNG is taken).

    When told, also images/ and masks/ with the original frame numbers. The group is the video sequence.
    """
    scan = two_folders((*ORIGINAL, *IMAGES), (*GROUND_TRUTH, *MASKS))
    listing = scan(next((place for place in clinicdb_places(root) if HAS_CLINICDB(place)), root))
    listing.entries = [replace(entry, group=_sequence_of(entry)) for entry in listing.entries]
    return listing


def clinicdb_places(root: Path) -> list[Path]:
    """Return where the two folders of CVC-ClinicDB may lie."""
    places = (root, child(root, "png"), child(root, "tif", "tiff"))
    return [place for place in places if place is not None]


def _sequence_of(entry: Entry) -> str:
    """Return the video sequence of a frame by its number, or the frame's own name if it has no known number."""
    frame = int(entry.name) if entry.name.isdecimal() else 0
    if not 1 <= frame <= _LAST_FRAME:
        return entry.group
    return f"seq{bisect_right(_FIRST_FRAMES, frame):02d}"


def scan_colondb(root: Path) -> Listing:
    """List frames and masks by number: `12.png`, `p12.png` or `p12mask.png`, in two folders or together in one.

    In one folder, `p12` is the mask of frame `12`, as in the original distribution; its further maps (`c12`: contour,
    `m12`: black border) are not used.
    """
    image_folder, mask_folder = child(root, *_FRAMES), child(root, *MASKS)
    if image_folder and mask_folder:
        listing = pair(_numbered(files_of(image_folder)), _numbered(files_of(mask_folder)))
        for place in (image_folder, mask_folder):
            report_others(place, listing)
        return listing
    together = files_of(root)
    masks = [path for path in together if re.fullmatch(r"p0*\d+", path.stem, re.IGNORECASE)]
    images = [path for path in together if path.stem.isdigit()]
    return pair(_numbered(images), _numbered(masks))


def is_colondb(root: Path) -> bool:
    """Whether masks are called `p12` or `p12mask`, of images by number."""
    mask_folder = child(root, *MASKS)
    if mask_folder and child(root, *_FRAMES):
        names = [path.stem for path in files_of(mask_folder)]
        return bool(names) and all(re.fullmatch(r"p\d+[ _-]?(mask)?", name, re.IGNORECASE) for name in names)
    stems = {path.stem.lower() for path in files_of(root)}
    return any(stem.isdigit() and f"p{stem}" in stems for stem in stems)


def _numbered(paths: list[Path]) -> list[tuple[str, Path]]:
    keys = [re.fullmatch(r"[a-z]*[ _-]?0*(\d+)[ _-]?(?:mask|gt)?", path.stem, re.IGNORECASE) for path in paths]
    return [(key[1] if key else path.stem, path) for key, path in zip(keys, paths, strict=True)]


def scan_busi(root: Path) -> Listing:
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
        if place:
            report_others(place, listing)
    normal = child(root, "normal")
    skipped = [path for path in files_of(normal) if not _BUSI_MASK.search(path.stem)] if normal else []
    if skipped:
        listing.notes.append(f"skipped {len(skipped)} images of normal/: they show no lesion")
    return listing


def scan_ph2(root: Path) -> Listing:
    """List `IMD002/IMD002_Dermoscopic_Image/IMD002.bmp` with `IMD002/IMD002_lesion/IMD002_lesion.bmp`.

    Regions of colours (`IMD002_roi/`) are not used.
    """
    images: list[tuple[str, Path]] = []
    masks: list[tuple[str, Path]] = []
    for case in _ph2_cases(root):
        for place in sorted(case.iterdir()):
            into = {_PH2_IMAGE: images, _PH2_MASK: masks}.get(place.name.lower().removeprefix(case.name.lower()))
            if into is not None:
                into += [(case.name, path) for path in files_of(place)]
    return pair(images, masks)


def _ph2_cases(root: Path) -> list[Path]:
    """Folders of single images, in this one or in `PH2 Dataset images/` in it."""
    inner = child(root, "ph2 dataset images", "ph2_dataset_images")
    places = [root if inner is None else inner]
    return [case for place in places if place.is_dir() for case in sorted(place.iterdir()) if _is_ph2_case(case)]


def _is_ph2_case(case: Path) -> bool:
    return case.is_dir() and child(case, case.name.lower() + _PH2_IMAGE) is not None


def is_ph2(root: Path) -> bool:
    """Whether there is a folder of one image as PH2 has them."""
    return bool(_ph2_cases(root))


def scan_isic(root: Path) -> Listing:
    """List `*_Input/ISIC_x.jpg` (or `*_Data/`) with `*_GroundTruth/ISIC_x_segmentation.png`; parts are kept.

    `ISIC_x_superpixels.png` are not used.
    """
    listing = _by_stem(_folders(root, _ISIC_IMAGES), _folders(root, _ISIC_MASKS))
    listing.entries = [replace(entry, role=_isic_role(entry.image)) for entry in listing.entries]
    return listing


def _isic_role(image: Path) -> str | None:
    return role_of(re.split(r"[_-]", image.parent.name))


def is_isic(root: Path) -> bool:
    """Whether there are ISIC's folders of images and of masks."""
    return bool(_folders(root, _ISIC_IMAGES) and _folders(root, _ISIC_MASKS))


def scan_ham10000(root: Path) -> Listing:
    """List `HAM10000_images_part_1/ISIC_x.jpg`, ... with `HAM10000_segmentations_*/ISIC_x_segmentation.png`.

    The group is the lesion, several images of which there may be, where `HAM10000_metadata.csv` lies beside.
    """
    listing = _by_stem(_folders(root, _HAM_IMAGES), _folders(root, _HAM_MASKS))
    table = next((root / name for name in _HAM_TABLES if is_file(root / name)), None)
    if table is None:
        listing.notes.append(
            "HAM10000 shows lesions more than once: without HAM10000_metadata.csv in the folder, images of one lesion "
            "may fall on both sides of a split"
        )
        return listing
    lesions = {row.cells["image_id"]: row.cells["lesion_id"] for row in _rows(table, "image_id", "lesion_id")}
    for entry in listing.entries:
        if entry.name not in lesions:
            listing.report(f"no lesion in {table.name}", str(entry.image))
    listing.entries = [replace(entry, group=lesions.get(entry.name, entry.group)) for entry in listing.entries]
    return listing


def is_ham10000(root: Path) -> bool:
    """Whether there are HAM10000's folders of images and of masks."""
    return bool(_folders(root, _HAM_IMAGES) and _folders(root, _HAM_MASKS))


def _rows(path: Path, *columns: str) -> Sequence[Row]:
    table = read_table(path, columns)
    return table.rows if {*columns} <= {*table.columns} else []


def _by_stem(images: list[Path], masks: list[Path]) -> Listing:
    listing = pair(_used(images), _used(masks))
    for place in (*images, *masks):
        report_others(place, listing)
    return listing


def _used(places: list[Path]) -> list[tuple[str, Path]]:
    files = [path for place in places for _, path in files_below(place)]
    return [(stem_of(path), path) for path in files if not path.stem.lower().endswith("_superpixels")]


def _folders(root: Path, pattern: re.Pattern[str]) -> list[Path]:
    inner = sorted(p for p in root.iterdir() if p.is_dir()) if root.is_dir() else []
    return [place for place in inner if pattern.search(place.name.lower())]
