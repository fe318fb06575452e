"""How masks are written: as PNG, or as DICOM segmentations that refer to their image."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from ...._support.files import atomic_write
from ....data.dicom_seg import read_dicom_seg, require_dicom, write_dicom_seg
from ....data.masks import Mask
from ....data.prompts import Box


@dataclass(frozen=True)
class Segmented:
    """What was segmented in one image: a mask for each box, by which model."""

    image: Path
    masks: Sequence[Mask]
    boxes: Sequence[Box]
    model_name: str
    model_hash: str


@dataclass(frozen=True)
class Format:
    """A kind of files for masks.

    Attributes:
        files: The names of the files of an image, from its own name and the number of boxes.
        write: Writes them.
        read: Reads them again, (H, W) bool each.
        require: Refuses images that cannot have such masks, before any is segmented.
    """

    files: Callable[[str, int], list[str]]
    write: Callable[[Sequence[Path], Segmented], None]
    read: Callable[[Sequence[Path]], list[Mask]]
    require: Callable[..., None] = lambda *images: None


def _png_names(name: str, count: int) -> list[str]:
    return [f"{name}_mask{f'_{place}' if count > 1 else ''}.png" for place in range(count)]


def _write_png(places: Sequence[Path], found: Segmented) -> None:
    for place, mask in zip(places, found.masks, strict=True):
        write_picture(place, mask.astype(np.uint8) * 255)


def _read_png(places: Sequence[Path]) -> list[Mask]:
    return [np.asarray(Image.open(place)) > 0 for place in places]


def _write_seg(places: Sequence[Path], found: Segmented) -> None:
    write_dicom_seg(places[0], found.image, found.masks, found.boxes, found.model_name, found.model_hash)


FORMATS = {
    "png": Format(_png_names, _write_png, _read_png),
    "dicom-seg": Format(
        lambda name, _: [f"{name}_seg.dcm"], _write_seg, lambda places: read_dicom_seg(places[0]), require_dicom
    ),
}
"""By the words of `--format`."""


def write_picture(place: Path, pixels: npt.NDArray[np.uint8]) -> None:
    """Write pixels as an image file, whole or not at all."""
    with atomic_write(place) as temporary:
        Image.fromarray(pixels).save(temporary)
