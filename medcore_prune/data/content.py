"""What makes two images, or two samples, the same, or look the same: hashes of their pixels, not of their files."""

import hashlib

import numpy as np
import numpy.typing as npt
from PIL import Image
from scipy.fft import dctn

from .types import Box

PERCEPTUAL_BITS = 255

_SIDE = 16
_REDUCED = 4 * _SIDE


def image_hash(image: npt.NDArray[np.uint8]) -> str:
    """Return the SHA-256 (hex) of an image's shape and pixels; the file format does not matter.

    Args:
        image: (H, W, 3) uint8.

    Returns:
        64 characters.
    """
    return _digest(image)


def perceptual_hash(image: npt.NDArray[np.uint8]) -> str:
    """Return which low frequencies of an image lie above their median: 255 bits and a zero, as 64 hex digits.

    The gray image is reduced to 64 x 64 and its discrete cosine transform cut to 16 x 16; the mean is left out. That is
    `imagehash.phash(image, hash_size=16)` restated: the package would bring compiled wavelets that nothing here calls.

    Args:
        image: (H, W, 3) uint8.
    """
    gray = Image.fromarray(image).convert("L").resize((_REDUCED, _REDUCED), Image.Resampling.BOX)
    low = dctn(np.asarray(gray, dtype=np.float64), norm="ortho")[:_SIDE, :_SIDE].ravel()[1:]
    return np.packbits(low > np.median(low)).tobytes().hex()


def content_hash(image: npt.NDArray[np.uint8], mask: npt.NDArray[np.bool_], box: Box | None = None) -> str:
    """Return the SHA-256 (hex) of a sample: its image's and its mask's shapes and pixels, and its box if it has one.

    Args:
        image: (H, W, 3) uint8.
        mask: (H, W) bool.
        box: A box prompt that is not the mask's own; None where the mask tells it.

    Returns:
        64 characters.
    """
    return _digest(image, mask.astype(np.uint8), extra="" if box is None else repr(tuple(map(float, box))))


def _digest(*arrays: npt.NDArray[np.uint8], extra: str = "") -> str:
    digest = hashlib.sha256(extra.encode())
    for array in arrays:
        digest.update(f"{'x'.join(map(str, array.shape))};".encode())
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()
