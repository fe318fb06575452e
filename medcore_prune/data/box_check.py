"""Whether given boxes mean what they are taken for: corners x0, y0, x1, y1 in pixels of the image.

Boxes of one file are all written in one way. Held against the boxes of the masks, another way of reading the four
numbers that fits clearly better, in nearly every image, gives that way away.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from .._support.words import few_of
from .prompts import Box

Array = npt.NDArray[np.float64]

_LEAST_OVERLAP, _LEAST_GAIN = 0.5, 0.15
_NEARLY_ALL, _LEAST_GAIN_OF_A_FIT = 0.93, 0.03
"""How well another way must fit, and how much better than corners: more where it fits loosely, less where exactly."""
_LEAST_SHARE = 0.8
_LEAST_COVERED = 0.5


@dataclass(frozen=True)
class Pair:
    """A given box beside the mask that it belongs to.

    Attributes:
        given: Four numbers as they stand.
        tight: The box of the mask.
        shape: (H, W) of the image.
        covered: Share of the mask's pixels within the given box.
    """

    given: Box
    tight: Box
    shape: tuple[int, int]
    covered: float

    @classmethod
    def of(cls, given: Box, tight: Box, mask: npt.NDArray[np.bool_]) -> "Pair":
        """Measure a box on a mask (H, W), of which `tight` is the box."""
        height, width = mask.shape
        x0, y0, x1, y1 = (round(min(max(value, -1.0), 1e9)) for value in given)
        inside = int(np.count_nonzero(mask[max(y0, 0) : max(y1 + 1, 0), max(x0, 0) : max(x1 + 1, 0)]))
        return cls(given, tight, (height, width), inside / max(1, int(np.count_nonzero(mask))))


def _from_corner(box: Array) -> Array:
    x, y, width, height = box
    return np.stack([x, y, x + width, y + height])


def _from_centre(box: Array) -> Array:
    x, y, width, height = box
    return np.stack([x - width / 2, y - height / 2, x + width / 2, y + height / 2])


# four columns of numbers to left, upper, right and lower edge
_WAYS: Mapping[str, Callable[[Array], Array]] = {
    "x0, y0, x1, y1": lambda box: box,
    "x, y, width, height": _from_corner,
    "centre x, centre y, width, height": _from_centre,
    "y0, x0, y1, x1": lambda box: box[[1, 0, 3, 2]],
    "x0, x1, y0, y1": lambda box: box[[0, 2, 1, 3]],
}


def _readings(given: Array, sizes: Array) -> dict[str, Array]:
    """Every other way to read boxes (4, n) of images of `sizes` (4, n), as edges in pixels (4, n)."""
    one = np.array([0.0, 0.0, 1.0, 1.0])[:, None]
    found = {f"{way} in pixels": read(given) for way, read in _WAYS.items()}
    # the last pixel of corners in pixels is a part of the box
    for way in ("x0, y0, x1, y1", "y0, x0, y1, x1", "x0, x1, y0, y1"):
        found[f"{way} in pixels"] = found[f"{way} in pixels"] + one
    found |= {f"{way} in shares of the image": read(given) * sizes for way, read in _WAYS.items()}
    return found


def _overlap(first: Array, second: Array) -> Array:
    """Intersection over union of edges (4, n) and (4, n)."""
    sides = np.minimum(first[2:], second[2:]) - np.maximum(first[:2], second[:2])
    both = np.prod(np.clip(sides, 0, None), axis=0)
    areas = [np.prod(np.clip(box[2:] - box[:2], 0, None), axis=0) for box in (first, second)]
    return np.asarray(both / np.maximum(areas[0] + areas[1] - both, 1e-9))


def misreading(pairs: Sequence[Pair]) -> str:
    """Say which other way of reading the boxes fits their masks better; "" where corners in pixels may be meant."""
    if not pairs:
        return ""
    given = np.array([pair.given for pair in pairs], dtype=np.float64).T
    sizes = np.array([pair.shape[::-1] * 2 for pair in pairs], dtype=np.float64).T
    true = np.array([pair.tight for pair in pairs], dtype=np.float64).T + np.array([0.0, 0.0, 1.0, 1.0])[:, None]
    overlaps = {way: _overlap(box, true) for way, box in _readings(given, sizes).items()}
    ours = overlaps.pop("x0, y0, x1, y1 in pixels")
    way = max(overlaps, key=lambda name: float(overlaps[name].mean()))
    best, gain = float(overlaps[way].mean()), float((overlaps[way] - ours).mean())
    needed = _LEAST_GAIN_OF_A_FIT if best >= _NEARLY_ALL else _LEAST_GAIN
    if best < _LEAST_OVERLAP or gain < needed or float((overlaps[way] > ours).mean()) < _LEAST_SHARE:
        return ""
    return (
        f"boxes are x0, y0, x1, y1 in pixels of the image; read so they overlap with their masks by "
        f"{float(ours.mean()):.2f}, read as {way} by {best:.2f}: write them as corners in pixels"
    )


def uncovering(pairs: Mapping[str, Pair]) -> str:
    """Say which boxes hold less than half of their mask; "" where none does. They can be used, as a detector's can."""
    few = sorted((name for name in pairs if pairs[name].covered < _LEAST_COVERED), key=lambda n: pairs[n].covered)
    if not few:
        return ""
    shown = few_of([f"{name} {pairs[name].covered:.0%}" for name in few])
    return (
        f"{len(few)} of {len(pairs)} boxes hold less than half of their mask ({shown}): boxes are x0, y0, x1, y1 "
        "in pixels of the image, not in shares of it, and of the image that the mask belongs to"
    )
