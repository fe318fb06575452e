"""What makes two images, or two samples, the same: hashes of their pixels, not of their files."""

import hashlib

import numpy as np
import numpy.typing as npt


def image_hash(image: npt.NDArray[np.uint8]) -> str:
    """Return the SHA-256 (hex) of an image's shape and pixels; the file format does not matter.

    Args:
        image: (H, W, 3) uint8.
    """
    return _digest(image)


def content_hash(image: npt.NDArray[np.uint8], mask: npt.NDArray[np.bool_]) -> str:
    """Return the SHA-256 (hex) of an image's and its mask's shapes and pixels.

    Args:
        image: (H, W, 3) uint8.
        mask: (H, W) bool.
    """
    return _digest(image, mask.astype(np.uint8))


def _digest(*arrays: npt.NDArray[np.uint8]) -> str:
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(f"{'x'.join(map(str, array.shape))};".encode())
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()
