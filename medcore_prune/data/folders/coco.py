"""Annotations in COCO's JSON: polygons and run lengths become masks, each annotation a sample with a box of its own."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import numpy.typing as npt
from skimage.draw import polygon2mask

from ..._support.errors import DataError
from ..._support.files import read_json_file
from ..stored import MOST_PIXELS
from .listing import TWO_IMAGES, Entry, Listing, child, is_file
from .names import composed, role_of, stem_of

_NAME = re.compile(r"(coco|instances|annotations?|labels)", re.IGNORECASE)
_OTHER_TASKS = re.compile(r"(captions|keypoints|panoptic|stuff)", re.IGNORECASE)
_OFFSET, _PAYLOAD, _MORE, _SIGN = 48, 0x1F, 0x20, 0x10


@dataclass(frozen=True)
class Region:
    """One annotated object.

    Attributes:
        shape: (H, W) of its image in pixels.
        polygons: x, y, x, y, ... of each, in pixels from the image's upper left corner; a pixel is inside with its
            centre.
        counts: Lengths of runs, background first, down the columns; empty where there are polygons.
    """

    shape: tuple[int, int]
    polygons: tuple[tuple[float, ...], ...] = ()
    counts: tuple[int, ...] = ()

    def mask(self) -> npt.NDArray[np.bool_]:
        """(H, W) bool."""
        if self.counts:
            values = np.arange(len(self.counts)) % 2 == 1
            return np.repeat(values, self.counts).reshape(self.shape, order="F")
        whole = np.zeros(self.shape, dtype=bool)
        for polygon in self.polygons:
            # rows and columns of pixel centres
            whole |= polygon2mask(self.shape, np.reshape(polygon, (-1, 2))[:, ::-1] - 0.5)
        return whole


def run_lengths(text: str) -> list[int]:
    """Decode COCO's compressed run lengths: six bits a character, from the third on differences to two before."""
    counts: list[int] = []
    place = 0
    while place < len(text):
        value, shift, more = 0, 0, True
        while more:
            if place == len(text):
                raise ValueError("run lengths that are cut off")
            bits = ord(text[place]) - _OFFSET
            if not 0 <= bits < 64:
                raise ValueError("run lengths with a foreign character")
            value |= (bits & _PAYLOAD) << shift
            more = bool(bits & _MORE)
            shift += 5
            place += 1
            if not more and bits & _SIGN:
                value |= -1 << shift
        counts.append(value + counts[-2] if len(counts) > 2 else value)
    return counts


def region_of(segmentation: Any, shape: tuple[int, int]) -> Region:
    """Read a `segmentation` of an image of (H, W): polygons, or run lengths in either form."""
    if isinstance(segmentation, Mapping):
        height, width = (int(side) for side in segmentation["size"])
        counts = segmentation["counts"]
        runs = run_lengths(counts) if isinstance(counts, str) else [int(count) for count in counts]
        if (height, width) != shape or min(runs, default=-1) < 0 or sum(runs) != height * width:
            raise ValueError(f"run lengths of {sum(runs)} pixels and size {height} x {width}, expected {shape}")
        return Region(shape, counts=tuple(runs))
    polygons = tuple(tuple(float(value) for value in polygon) for polygon in segmentation)
    if any(len(polygon) < 6 or len(polygon) % 2 or not np.isfinite(polygon).all() for polygon in polygons):
        raise ValueError("a polygon of fewer than three points")
    return Region(shape, polygons)


def annotation_files(root: Path) -> list[Path]:
    """Return the files that may hold COCO's annotations: in the folder, in annotations/, or in a part of a split."""
    inner = [place for place in sorted(root.iterdir()) if place.is_dir()] if root.is_dir() else []
    places = [root, *(p for p in inner if p.name.lower() == "annotations" or role_of([p.name]))]
    files = [path for place in places if place.is_dir() for path in sorted(place.glob("*.json"))]
    return [path for path in files if _NAME.search(path.stem) and not _OTHER_TASKS.search(path.stem)]


def scan_coco(root: Path) -> Listing:
    """List the annotations of all files; parts of a split are told by the files' names or folders."""
    listing = Listing()
    for path in annotation_files(root):
        try:
            content = read_json_file(path)
            images = {image["id"]: image for image in content["images"]}
            annotations = list(content["annotations"])
            names = sorted(str(each["name"]) for each in content.get("categories", []))
        except (OSError, ValueError, KeyError, TypeError) as error:
            reason = f"no {error}" if isinstance(error, KeyError) else str(error)
            raise DataError(f"{path}: expected COCO's images and annotations, cannot read them ({reason})") from error
        if len(names) > 1:
            listing.notes.append(f"{path.name}: objects of all categories are taken alike: {', '.join(names)}")
        _list_one(root, path, images, annotations, listing)
    seen: dict[str, Path] = {}
    for entry in listing.entries:
        if seen.setdefault(entry.group, entry.image) != entry.image:
            listing.report(TWO_IMAGES, f"{seen[entry.group]} and {entry.image}")
    return listing


def _list_one(root: Path, path: Path, images: Mapping[Any, Any], annotations: Sequence[Any], listing: Listing) -> None:
    role = role_of([*re.split(r"[\W_\d]+", path.stem), path.parent.name if path.parent != root else ""])
    of_image: dict[Any, list[Any]] = {}
    crowds, bare = 0, 0
    for annotation in annotations:
        if annotation.get("iscrowd"):
            crowds += 1
        elif not annotation.get("segmentation"):
            bare += 1
        else:
            of_image.setdefault(annotation.get("image_id"), []).append(annotation)
    for number in of_image.keys() - images.keys():
        listing.report(f"annotation of no image in {path.name}", str(number))
    for count, what in ((crowds, "annotations of crowds"), (bare, "annotations without a segmentation")):
        if count:
            listing.notes.append(f"{path.name}: left out {count} {what}")
    without = [str(image.get("file_name")) for number, image in images.items() if number not in of_image]
    if without:
        listing.notes.append(f"{path.name}: left out {len(without)} images without annotations: {', '.join(without)}")
    for number, image in images.items():
        if number in of_image:
            _list_image(root, path, image, of_image[number], role, listing)


def _list_image(
    root: Path, path: Path, image: Mapping[str, Any], annotations: Sequence[Any], role: str | None, listing: Listing
) -> None:
    name = str(image.get("file_name"))
    place = _found(root, path, name)
    if place is None:
        listing.report("listed in annotations but not there", f"{name} ({path.name})")
        return
    stem = composed(str(PurePosixPath(name).parent / stem_of(Path(name))))
    for annotation in annotations:
        own = f"{stem}#{annotation.get('id')}" if len(annotations) > 1 else stem
        try:
            shape = int(image["height"]), int(image["width"])
            if not 0 < shape[0] * shape[1] <= MOST_PIXELS:
                raise ValueError(f"an image of {shape[1]} x {shape[0]} pixels")
            region = region_of(annotation["segmentation"], shape)
        except (KeyError, TypeError, ValueError) as error:
            reason = f"no {error}" if isinstance(error, KeyError) else str(error)
            listing.report("annotation that is none", f"{own} in {path.name}: {reason}")
            continue
        listing.entries.append(Entry(own, place, (), stem, role=role, region=region))


def _found(root: Path, path: Path, name: str) -> Path | None:
    """Return where an image of an annotation file lies, within the folder."""
    parts = PurePosixPath(name.replace("\\", "/"))
    if parts.is_absolute() or ".." in parts.parts or not parts.name:
        return None
    part = re.sub(r"^(instances|annotations?|coco)[_-]?", "", path.stem, flags=re.IGNORECASE)
    images = child(root, "images", "imgs", "image")
    places = [path.parent, root, *([images] if images else []), root / part, *([images / part] if images else [])]
    return next((place / parts for place in places if is_file(place / parts)), None)
