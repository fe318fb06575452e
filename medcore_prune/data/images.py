"""Image and mask files to arrays, whatever their format and mode: one decision each, stated here.

Images become (H, W, 3) uint8 RGB: gray is repeated, palettes are looked up, alpha is dropped. More than 8 bits a
channel (16-bit PNG and TIFF, float, `.npy`) are scaled to 8 by the image's own smallest and largest value, except
that 16-bit values which are 8-bit ones times 257 get back those; of a 16-bit colour PNG only the high byte is read.
The EXIF orientation is applied, as viewers and annotation tools do; masks are expected upright. TIFFs of up to 16 bits
whose 0 is white are turned round. Files of several pages (TIFF, GIF, WebP, animated PNG) are refused, and so are images
of more than `MOST_PIXELS`.
"""

import math
import os
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt
import tifffile
from PIL import Image, ImageOps, UnidentifiedImageError
from PIL.TiffImagePlugin import TiffImageFile

from .._support.errors import DataError
from .._support.files import not_a_file
from .dicom import dicom_shape, dicom_spacing, read_dicom, read_dicom_mask
from .mask_checks import gray_levels, photograph
from .masks import MaskThreshold, binarise, channels_last, cut, few_colours, object_of, one_channel, visible
from .readers import READERS, Reader, reader_of, register_reader

# what the suffixes promise: Pillow goes by content, and would hand PostScript over to another program
_FORMATS = ("PNG", "JPEG", "TIFF", "BMP", "GIF", "WEBP", "PPM")
MOST_PIXELS = 1 << 26
"""Of one image, 8192 x 8192. More is refused by the header, before memory is taken: a small file may claim any size."""
_CHANNELS = 4
_COUNTED = 10

_LARGEST_LABEL = (1 << 31) - 1
_ORIENTATION = 0x0112
_BITS_PER_SAMPLE = 0x0102
_PHOTOMETRIC = 0x0106
# modes that numpy gets as they are; all others go through Pillow's conversion to 8-bit RGB
_PLAIN_MODES = frozenset({"1", "L", "RGB", "I;16", "I;16L", "I;16B", "I", "F"})


def is_image_file(path: Path) -> bool:
    """Say whether the name is that of an image file (hidden files are not)."""
    return reader_of(path) is not None and not path.name.startswith(".")


def read_image(path: str | os.PathLike[str]) -> npt.NDArray[np.uint8]:
    """Read an image file as (H, W, 3) uint8 RGB.

    Gray is repeated, palettes are looked up, alpha is dropped. More than 8 bits a channel are scaled to 8 by the
    image's own range, but 16-bit values that are 8-bit ones times 257 get back those. The EXIF orientation is applied.

    Args:
        path: Of an image file.

    Returns:
        (H, W, 3) uint8.

    Raises:
        DataError: Missing, damaged, no image, too large, of several pages, or a TIFF of more than 16 bits whose 0 is
            white.
    """
    path = Path(path)
    return rgb_of(_load(path), path)


def to_rgb(image: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Return an (H, W, 3) view, or copy, of a gray (H, W), RGB or RGBA uint8 image; alpha is dropped."""
    if not isinstance(image, np.ndarray):
        raise DataError(f"expected an image as a numpy array, got {type(image).__name__}: give np.asarray(image)")
    if image.size == 0:
        raise DataError(f"expected an image with pixels, got shape {image.shape}")
    if image.dtype != np.uint8:
        raise DataError(
            f"expected an image of uint8 values, got {image.dtype}: read it with mp.data.read_image, or scale it"
        )
    if image.ndim == 2:
        return np.repeat(image[:, :, None], 3, axis=2)
    if image.ndim == 3 and image.shape[2] in (3, 4):
        return image[:, :, :3]
    raise DataError(f"expected an image of shape (H, W), (H, W, 3) or (H, W, 4), got {image.shape}")


def read_mask(path: str | os.PathLike[str], threshold: MaskThreshold = None) -> npt.NDArray[np.bool_]:
    """Read a mask file as (H, W) bool.

    Lossy files (JPEG, WebP) are cut at half of the range, so that compression noise is background. Others: any
    non-zero value if there is one such value or all values lie in the lower half of the type's range (0/1 masks,
    labels); else more than half of the range (0/255 masks, also anti-aliased ones). Of a few colours, and of a palette
    that begins with black, everything but black counts; of other channels the brightest. Alpha counts if it is all
    that varies; of a few colours, what is transparent is background. A threshold has the last word.

    Args:
        path: Of a mask file.
        threshold: What is stored above this value is object, whatever the values; of several channels the brightest
            counts. `"half"` takes half of the range of a file whose largest value lies above that, and says so of masks
            whose low values are known to be stray.

    Returns:
        (H, W) bool.

    Raises:
        DataError: Missing, damaged, no image, of several pages; a photograph; several areas above half of the range, or
            gray ones in a lossy file; or, in a lossless file, values that leave open what is object: labels beside a
            value in the upper half of the range, such as 85 and 170, or 1 and a "void" of 255 (`refuse_lost_labels`),
            several values without any background, or colour and alpha that disagree.
    """
    path = Path(path)
    values = _load(path, mask=True)
    if threshold is not None:
        return cut(visible(values, path), threshold, path)
    if _reader(path).lossy:
        channel = one_channel(values, path)
        if said := photograph(channel) or gray_levels(values, channel):
            raise DataError(f"{path}: {said}")
        return binarise(channel, lossy=True)
    return object_of(values, path)


def read_labels(path: str | os.PathLike[str]) -> npt.NDArray[np.int64]:
    """Read a label map as (H, W) int64: 0 is background, every other value an object of its own.

    A 0/255 mask is one object, 255. Of a palette that begins with black the indices are the labels. Lossy files hold no
    labels and become 0/1. Colour, and values that are no whole numbers or out of range, are refused.
    """
    path = Path(path)
    loaded = _load(path, mask=True)
    if _reader(path).lossy:
        return binarise(one_channel(loaded, path), lossy=True).astype(np.int64)
    colours = visible(loaded, path)
    if few_colours(colours):
        raise DataError(f"{path}: expected a label map of one channel, got colours: save the labels as numbers")
    values = one_channel(colours, path)
    if said := photograph(values):
        raise DataError(f"{path}: {said}")
    low, high = float(values.min()), float(values.max())
    if low < 0 or high > _LARGEST_LABEL:
        raise DataError(f"{path}: expected labels from 0 to {_LARGEST_LABEL}, got {low:g} to {high:g}")
    labels = values.astype(np.int64)
    if not np.array_equal(labels, values):
        raise DataError(f"{path}: expected a label map of whole numbers, got fractions")
    return labels


def image_shape(path: str | os.PathLike[str]) -> tuple[int, int]:
    """Return (H, W) of an image file from its header, after the EXIF orientation.

    A file whose end looks cut off is decoded as a whole to be sure, which the header alone does not tell.
    """
    path = Path(path)
    _require_file(path)
    shape = _reader(path).shape
    found = None if shape is None else shape(path)
    return read_image(path).shape[:2] if found is None else found


def image_spacing(path: str | os.PathLike[str]) -> tuple[float, float] | None:
    """Return millimetres from row to row and from column to column where the format says them, else None.

    Dots per inch of photographs and scans say nothing of what is shown, and are not taken.
    """
    path = Path(path)
    spacing = _reader(path).spacing
    if spacing is None:
        return None
    try:
        return spacing(path)
    except Exception as error:
        raise DataError(f"{path}: could not read its pixel spacing ({' '.join(str(error).split())})") from error


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
    if not_a_file(path) or _reader(Path(path)).shape is not _header_shape:
        return 1
    try:
        with Image.open(path, formats=_FORMATS) as image:
            found = image.getexif().get(_ORIENTATION, 1)
    except Exception:
        return 1
    return found if found in range(1, 9) else 1


def _require_file(path: Path) -> None:
    if problem := not_a_file(path):
        raise DataError(f"{path}: {problem}; expected an image")


def _reader(path: Path) -> Reader:
    """What reads a file; one of no known suffix is tried as an image, which goes by its content."""
    return reader_of(path) or READERS.get(".png")


def _load(path: Path, mask: bool = False) -> npt.NDArray[np.generic]:
    """Return the stored values of an image, or of a mask: (H, W) or (H, W, C)."""
    _require_file(path)
    reader = _reader(path)
    try:
        return _plain(np.asarray(reader.read_mask(path) if mask else reader.read(path)))
    except Exception as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        if isinstance(error, UnidentifiedImageError):
            reason = "of no format that is known"
        raise DataError(
            f"{path}: expected an image, could not read it ({reason.replace(str(path), 'file')})"
        ) from error


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


def _plain(values: npt.NDArray[np.generic]) -> npt.NDArray[np.generic]:
    if values.dtype.kind not in "buif":
        raise ValueError(f"values of type {values.dtype}, expected numbers")
    return values


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


def rgb_of(values: npt.NDArray[np.generic], path: Path) -> npt.NDArray[np.uint8]:
    """Return stored values, (H, W) or (H, W, 1 to 4), as (H, W, 3) uint8 by the rules of `read_image`."""
    values = channels_last(values, path)
    if values.shape[2] in (2, 4):
        values = values[:, :, :-1]
    pixels = _to_8_bits(values, path)
    return np.ascontiguousarray(np.broadcast_to(pixels, (*pixels.shape[:2], 3)))


def _to_8_bits(values: npt.NDArray[np.generic], path: Path) -> npt.NDArray[np.uint8]:
    if values.dtype == np.uint8:
        return values.astype(np.uint8)
    if values.dtype == np.bool_:
        return values.astype(np.uint8) * np.uint8(255)
    if values.dtype == np.uint16 and not np.any(values.astype(np.uint16) % 257):
        return (values.astype(np.uint16) // 257).astype(np.uint8)
    if not all(np.isfinite(rows).all() for rows in _bands(values)):
        raise DataError(f"{path}: expected finite pixel values, got NaN or infinity")
    low, high = np.float64(values.min()), np.float64(values.max())
    # an infinite difference of finite values
    if high / 2 - low / 2 > np.finfo(np.float64).max / 2:
        raise DataError(f"{path}: expected pixel values of a sensible range, got {low:.3g} to {high:.3g}")
    factor = 255.0 / (high - low) if high > low else 0.0
    return np.concatenate([np.rint((rows - low) * factor).astype(np.uint8) for rows in _bands(values)])


def _bands(values: npt.NDArray[np.generic], height: int = 512) -> Iterator[npt.NDArray[np.float64]]:
    """Rows of an image, so many at a time, as wide numbers: the whole would take eight times its memory."""
    return (values[top : top + height].astype(np.float64) for top in range(0, len(values), height))


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
