"""Image and mask files to arrays, whatever their format and mode: one decision each, stated here.

Images become (H, W, 3) uint8 RGB: gray is repeated, palettes are looked up, alpha is dropped. More than 8 bits a
channel (16-bit PNG and TIFF, float, `.npy`) are scaled to 8 by the image's own smallest and largest value, except
that 16-bit values which are 8-bit ones times 257 get back those; of a 16-bit colour PNG only the high byte is read.
The EXIF orientation is applied, as viewers and annotation tools do; masks are expected upright. TIFFs of up to 16 bits
whose 0 is white are turned round. Files of several pages (TIFF, GIF, WebP, animated PNG) are refused, and so are images
of more than `stored.MOST_PIXELS`.
"""

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import UnidentifiedImageError

from .._support.errors import DataError
from .._support.files import not_a_file
from .mask_checks import gray_levels, photograph
from .masks import MaskThreshold, binarise, channels_last, cut, few_colours, object_of, one_channel, visible
from .readers import reader_for, reader_of

_LARGEST_LABEL = (1 << 31) - 1


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
    if reader_for(path).lossy:
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
    if reader_for(path).lossy:
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
    shape = reader_for(path).shape
    found = None if shape is None else shape(path)
    return read_image(path).shape[:2] if found is None else found


def image_spacing(path: str | os.PathLike[str]) -> tuple[float, float] | None:
    """Return millimetres from row to row and from column to column where the format says them, else None.

    Dots per inch of photographs and scans say nothing of what is shown, and are not taken.
    """
    path = Path(path)
    spacing = reader_for(path).spacing
    if spacing is None:
        return None
    try:
        return spacing(path)
    except Exception as error:
        raise DataError(f"{path}: could not read its pixel spacing ({' '.join(str(error).split())})") from error


def _require_file(path: Path) -> None:
    if problem := not_a_file(path):
        raise DataError(f"{path}: {problem}; expected an image")


def _load(path: Path, mask: bool = False) -> npt.NDArray[np.generic]:
    """Return the stored values of an image, or of a mask: (H, W) or (H, W, C)."""
    _require_file(path)
    reader = reader_for(path)
    try:
        return _plain(np.asarray(reader.read_mask(path) if mask else reader.read(path)))
    except Exception as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        if isinstance(error, UnidentifiedImageError):
            reason = "of no format that is known"
        raise DataError(
            f"{path}: expected an image, could not read it ({reason.replace(str(path), 'file')})"
        ) from error


def _plain(values: npt.NDArray[np.generic]) -> npt.NDArray[np.generic]:
    if values.dtype.kind not in "buif":
        raise ValueError(f"values of type {values.dtype}, expected numbers")
    return values


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
