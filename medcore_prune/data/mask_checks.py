"""What the values of a mask file, or of an image, look like: a photograph in a mask's place, a mask in an image's.

Measured on ten sets of real images (endoscopy, dermoscopy, wounds, ultrasound, nuclei, photographs), on their masks as
PNG and as JPEG, and on masks resized with every filter of Pillow: the limits lie between what the two kinds have.
"""

import numpy as np
import numpy.typing as npt

_LOOKED_AT = 64  # rows and columns of a file that are looked at
_DISTINCT = 5  # values in a patch of 3 x 3 from which on it is texture, and neither edge nor corner of areas
_TEXTURED, _SHADES = 0.25, 64
_TWO_LEVELS, _APART = 0.9, 64  # of a JPEG: what two values hold of it, and how far apart they are
_APART_SHARE = 0.15
_WHITE = 255
_FLAT = 12  # range of a 3 x 3 patch in an area of a JPEG
_LEVEL_SHARE, _FEWEST = 0.01, 8


def texture(values: npt.NDArray[np.generic]) -> tuple[float, int]:
    """Return how much of (H, W) values is texture in the middle of their range, 0 to 1, and how many values there are.

    Both are counted over a grid of places. Areas of one value have no texture, labels among them, nor have edges
    between two or three areas; soft edges have some, along the edge.
    """
    patches = _patches(values)
    if not patches.size:
        return 0.0, 0
    centre, peak = patches[4].astype(np.float64), float(values.max())
    distinct = 1 + np.count_nonzero(np.diff(np.sort(patches, axis=0), axis=0), axis=0)
    middle = (centre > 0.1 * peak) & (centre < 0.9 * peak)
    return float(np.mean(middle & (distinct >= _DISTINCT))), len(np.unique(centre))


def _patches(values: npt.NDArray[np.generic]) -> npt.NDArray[np.generic]:
    """Return 3 x 3 patches on a grid of places as (9, places), the centre at 4."""
    height, width = values.shape
    if min(height, width) < 3:
        return np.zeros((9, 0), values.dtype)
    rows = np.unique(np.linspace(1, height - 2, _LOOKED_AT).astype(int))
    columns = np.unique(np.linspace(1, width - 2, _LOOKED_AT).astype(int))
    steps = [(down, right) for down in (-1, 0, 1) for right in (-1, 0, 1)]
    return np.stack([values[np.ix_(rows + down, columns + right)].ravel() for down, right in steps])


def photograph(channel: npt.NDArray[np.generic]) -> str:
    """Say so where (H, W) mask values, the brightest channel of a colour, are those of a photograph; else ""."""
    share, shades = texture(channel)
    if share < _TEXTURED or shades < _SHADES:
        return ""
    return (
        f"looks like a photograph, not like a mask ({shades} shades, texture over {share:.0%} of it): are images and "
        "masks exchanged, or images put in the place of masks?"
    )


def no_photograph(image: npt.NDArray[np.uint8]) -> str:
    """Say so where an image (H, W, 3) is a mask: gray, of two values, or nearly so as JPEG leaves them; else "".

    An image of one value alone is an image.
    """
    few = image[:: max(1, image.shape[0] // _LOOKED_AT), :: max(1, image.shape[1] // _LOOKED_AT)]
    if not _two_levels(few):
        return ""
    return _two_levels(image)


def _two_levels(image: npt.NDArray[np.uint8]) -> str:
    gray = image[:, :, 0]
    if (image != gray[:, :, None]).any():
        return ""
    counts = np.bincount(gray.ravel(), minlength=256)
    low, high = sorted(int(value) for value in np.argsort(counts)[-2:])
    share = (counts[low] + counts[high]) / gray.size
    alone = min(counts[low], counts[high]) == 0
    if alone or not (share == 1.0 or (share >= _TWO_LEVELS and high - low >= _APART)):
        return ""
    return (
        f"looks like a mask, not like an image (the values {low} and {high} are {share:.0%} of it): are images and "
        "masks exchanged?"
    )


def bright_levels(flat: npt.NDArray[np.float64], full: float) -> str:
    """Say so where several of the values that fill areas of a lossless mask lie above half of the range; else "".

    One may be the object and the other a part of it, as labels are, or white the background. What resizing leaves
    beside an edge is nearer to it than `_APART_SHARE` of the range.
    """
    bright = flat[flat > full / 2]
    if len(bright) < 2 or bright[-1] - bright[0] < _APART_SHARE * full:
        return ""
    return _two_readings([float(value) for value in bright])


def gray_levels(values: npt.NDArray[np.generic], channel: npt.NDArray[np.generic]) -> str:
    """Say so where a JPEG mask (H, W) or (H, W, C), with its brightest channel, is not black and white; else "".

    Gray areas, which a cut at half of the range would take or leave by chance, or colours without any black.
    """
    coloured = values.ndim == 3 and np.ptp(values[:, :, :3], axis=2).max() > _APART
    if coloured and np.mean(channel.astype(np.float64) <= _WHITE / 2) < _LEVEL_SHARE:
        return "several colours and nothing is dark; expected a background of black: save the object as 255, else 0"
    patches = _patches(channel)
    flat = patches[4][np.ptp(patches, axis=0) <= _FLAT].astype(np.float64)
    least = max(_FEWEST, _LEVEL_SHARE * patches.shape[1])
    gray = flat[(flat > 0.1 * _WHITE) & (flat < 0.6 * _WHITE)]
    bright = flat[flat >= 0.6 * _WHITE]
    darker = bright[bright < bright.max(initial=0) - _APART_SHARE * _WHITE]
    found = [float(np.median(level)) for level in (gray, darker) if len(level) >= least]
    if not found:
        return ""
    return f"{_two_readings(sorted([*found, *([float(bright.max())] if len(bright) else [])]))} (JPEG keeps no labels)"


def _two_readings(levels: list[float]) -> str:
    listed = ", ".join(f"{level:g}" for level in levels)
    return (
        f"areas of {listed} beside what is darker: all of these may be the object, or {levels[-1]:g} may be the "
        "background of one that is darker; save what is object as 255 and all else as 0"
    )
