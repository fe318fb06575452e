"""Values as image files store them, by the libraries of their formats; what they mean is for `images` to say.

The EXIF orientation is applied, TIFFs whose 0 is white are turned round, files of several pages and of too many pixels
are refused. Readers are registered by suffix.
"""

import math
import os
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt
import tifffile
from PIL import Image, ImageOps, UnidentifiedImageError
from PIL.TiffImagePlugin import TiffImageFile

from .._support.files import not_a_file
from .dicom import dicom_shape, dicom_spacing, read_dicom, read_dicom_mask
from .readers import reader_for, register_reader

# what the suffixes promise: Pillow goes by content, and would hand PostScript over to another program
_FORMATS = ("PNG", "JPEG", "TIFF", "BMP", "GIF", "WEBP", "PPM")
MOST_PIXELS = 1 << 26
"""Of one image, 8192 x 8192. More is refused by the header, before memory is taken: a small file may claim any size."""
_CHANNELS = 4
_COUNTED = 10
_ORIENTATION = 0x0112
_BITS_PER_SAMPLE = 0x0102
_PHOTOMETRIC = 0x0106
# modes that numpy gets as they are; all others go through Pillow's conversion to 8-bit RGB
_PLAIN_MODES = frozenset({"1", "L", "RGB", "I;16", "I;16L", "I;16B", "I", "F"})


def _header_shape(path: Path) -> tuple[int, int] | None:
    """Return (H, W) as the header has it, or None if only the whole file can tell."""
    if not _looks_complete(path):
        return None
    try:
        with Image.open(path, formats=_FORMATS) as image:
            width, height = image.size
            _check_size(image.size)
            turned = image.getexif().get(_ORIENTATION, 1) >= 5
            if _pages(image) > 1 or (turned and image.format == "TIFF"):
                return None
    except Exception:
        return None
    return (width, height) if turned else (height, width)


def orientation(path: str | os.PathLike[str]) -> int:
    """Return the EXIF orientation of an image file, 1 to 8; 1, upright, where it has none or none can be read."""
    if not_a_file(path) or reader_for(Path(path)).shape is not _header_shape:
        return 1
    try:
        with Image.open(path, formats=_FORMATS) as image:
            found = image.getexif().get(_ORIENTATION, 1)
    except Exception:
        return 1
    return found if found in range(1, 9) else 1


@register_reader(".npy")
def _load_npy(path: Path) -> npt.NDArray[np.generic]:
    # memory-mapped first: a header alone takes no memory, whatever it claims, and a map fails where values are missing
    mapped = np.load(path, mmap_mode="r", allow_pickle=False)
    if not isinstance(mapped, np.ndarray):
        raise ValueError("an archive of arrays, expected one array")
    _check_size(mapped.shape)
    del mapped
    # not through the map: a file that is cut meanwhile would end the program
    return np.asarray(np.load(path, allow_pickle=False))


def _load_with_tifffile(path: Path) -> npt.NDArray[np.generic]:
    with tifffile.TiffFile(path) as file:
        _check_pages(len(file.pages))
        page = file.pages.first
        _check_size(page.shape)
        _check_size(file.series[0].shape)
        values = np.asarray(file.asarray())
        white_is_zero = _is_zero(page.tags.valueof(_PHOTOMETRIC))
        return _black_as_zero(values, page.bitspersample) if white_is_zero else values


def _check_size(shape: Sequence[int]) -> None:
    """Refuse too many pixels; a first or last side that can be channels is none of the image's."""
    sides = [side for place, side in enumerate(shape) if side > _CHANNELS or 0 < place < len(shape) - 1]
    if math.prod(sides) > MOST_PIXELS:
        raise ValueError(
            f"{' x '.join(map(str, sides))} pixels, expected at most {MOST_PIXELS}, such as 8192 x 8192: scale it "
            "down, or cut it into tiles"
        )


def _pages(image: Image.Image) -> int:
    """Return how many pictures a file holds, where none is the one meant: what a phone puts behind a JPEG is extra."""
    if image.format == "MPO":
        return 1
    if image.format not in ("TIFF", "GIF"):
        return getattr(image, "n_frames", 1)
    # what tells their number only by going through all of them is asked for a few
    count = 1
    try:
        while count < _COUNTED:
            image.seek(count)
            count += 1
    except EOFError:
        pass
    image.seek(0)
    return count


def _check_pages(pages: int) -> None:
    if pages > 1:
        least = " or more" if pages >= _COUNTED else ""
        raise ValueError(f"holds {pages}{least} pages: save the one that is meant")


def _load_with_pillow(path: Path, indices: bool = False) -> npt.NDArray[np.generic]:
    """Read stored values; EXIF orientation is applied.

    Palettes are looked up; with `indices`, those that begin with black give their indices instead.
    """
    try:
        opened = Image.open(path, formats=_FORMATS)
    except UnidentifiedImageError:
        if path.suffix.lower() in (".tif", ".tiff"):
            return _load_with_tifffile(path)
        raise
    with opened as image:
        _check_size(image.size)
        _check_pages(_pages(image))
        bits, white_is_zero = (8,), False
        if isinstance(image, TiffImageFile):
            bits = image.tag_v2.get(_BITS_PER_SAMPLE, bits)
            if len(bits) > 1 and max(bits) > 8:
                return _load_with_tifffile(path)
            # up to 8 bits Pillow turns them round itself
            white_is_zero = bits[0] > 8 and _is_zero(image.tag_v2.get(_PHOTOMETRIC))
            if image.tag_v2.get(_ORIENTATION, 1) >= 5 and image.info.get("compression") == "raw":
                raise ValueError("Pillow garbles an uncompressed TIFF that is stored on its side: save it upright")
        # TIFF files are turned while they load, after which their orientation is 1
        image.load()
        values = _values_of(ImageOps.exif_transpose(image), indices)
        return _black_as_zero(values, bits[0]) if white_is_zero else values


def _values_of(image: Image.Image, indices: bool) -> npt.NDArray[np.generic]:
    if indices and image.mode == "P" and (image.getpalette() or [])[:3] == [0, 0, 0] and not _is_gray(image):
        return np.asarray(image)
    if image.mode.endswith("A") or "transparency" in image.info:
        return np.asarray(image.convert("RGBA"))
    return np.asarray(image if image.mode in _PLAIN_MODES else image.convert("RGB"))


def _is_zero(tag: object) -> bool:
    """Whether a tag is there and 0; tifffile takes a PhotometricInterpretation that is missing for 0."""
    return tag is not None and tag == 0


def _black_as_zero(values: npt.NDArray[np.generic], bits: int) -> npt.NDArray[np.generic]:
    """Turn round gray values of a TIFF whose 0 is white (PhotometricInterpretation 0, MinIsWhite)."""
    if values.ndim != 2 or values.dtype not in (np.bool_, np.uint8, np.uint16):
        raise ValueError(f"a TIFF whose 0 is white, of {values.dtype} values: save it with black as 0")
    largest = 1 if values.dtype == np.bool_ else (1 << bits) - 1
    return np.asarray(largest - values.astype(np.int64), values.dtype)


def _is_gray(image: Image.Image) -> bool:
    """Whether a palette image is an ordinary gray one, whose colours are values rather than names of classes."""
    palette = np.array(image.getpalette(), dtype=np.int64).reshape(-1, 3)
    indices = np.unique(np.asarray(image))
    used = palette[indices[indices < len(palette)]]
    return bool(np.array_equal(used, used[:, :1].repeat(3, axis=1)))


def _looks_complete(path: Path) -> bool:
    """Say whether the end of a JPEG or PNG file is there (other formats: unknown, taken as complete)."""
    try:
        with path.open("rb") as stream:
            head = stream.read(4)
            stream.seek(0, os.SEEK_END)
            stream.seek(max(0, stream.tell() - 64))
            tail = stream.read()
    except OSError:
        return False
    if head.startswith(b"\xff\xd8"):
        return b"\xff\xd9" in tail
    if head.startswith(b"\x89PNG"):
        return b"IEND" in tail
    return True


_MASKS = partial(_load_with_pillow, indices=True)
register_reader(
    *(".png", ".tif", ".tiff", ".bmp", ".gif", ".ppm", ".pgm", ".pbm", ".pnm"), masks=_MASKS, shape=_header_shape
)(_load_with_pillow)
register_reader(".jpg", ".jpeg", ".jfif", ".jpe", ".webp", lossy=True, masks=_MASKS, shape=_header_shape)(
    _load_with_pillow
)


@register_reader(".dcm", ".dicom", masks=read_dicom_mask, shape=dicom_shape, spacing=dicom_spacing)
def _load_dicom(path: Path) -> npt.NDArray[np.generic]:
    return read_dicom(path)
