"""Masks and boxes drawn over an image, for the eye."""

from typing import TypeVar

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from ...._support.errors import DataError
from ....data.images import to_rgb
from ....data.prompts import Box

_Pixel = TypeVar("_Pixel", np.uint8, np.bool_)
Image = npt.NDArray[np.uint8]
Mask = npt.NDArray[np.bool_]

COLOURS: tuple[tuple[int, int, int], ...] = (
    (255, 214, 0),
    (0, 209, 255),
    (255, 105, 180),
    (124, 252, 0),
    (255, 140, 0),
    (186, 130, 255),
)
"""One an object, in turn: bright, far from the reds and browns of tissue, and apart for colour-blind eyes."""
_HALO = (0, 0, 0)
_THICKNESS = 1 / 400  # of the longer side
_LEAST_THICKNESS = 2
_LEAST_SIDE = 512


def overlay(image: Image, masks: list[Mask], boxes: list[Box]) -> Image:
    """Draw the contour of each mask, (H, W) bool, and its box over a uint8 image, grey or in colour.

    Small images are enlarged, every pixel k times, until the longer side has 512 pixels: (k H, k W, 3) uint8. Contours
    are lines on the mask's inner edge with a dark halo, so that they are seen on bright and on dark ground; boxes, x0,
    y0, x1, y1 in pixels of the image, are thin dashed frames of the same colour.
    """
    drawn = np.array(to_rgb(image), order="C")
    if len(masks) != len(boxes):
        raise DataError(f"expected a box a mask, got {len(masks)} masks and {len(boxes)} boxes")
    if wrong := [mask.shape for mask in masks if mask.shape != drawn.shape[:2]]:
        raise DataError(f"expected masks of {drawn.shape[:2]} pixels like the image, got {wrong[0]}")
    times = max(1, -(-_LEAST_SIDE // max(drawn.shape[:2])))
    drawn = _enlarged(drawn, times)
    thickness = max(_LEAST_THICKNESS, round(max(drawn.shape[:2]) * _THICKNESS))
    lines = [contour(_enlarged(mask, times), thickness) for mask in masks]
    frames = [_frame(_enlarged_box(box, times), drawn.shape[:2], thickness) for box in boxes]
    for line in (*lines, *frames):
        drawn[ndimage.binary_dilation(line, iterations=thickness) & ~line] = _HALO
    for place, (line, frame) in enumerate(zip(lines, frames, strict=True)):
        colour = COLOURS[place % len(COLOURS)]
        drawn[frame] = colour
        drawn[line] = colour
    return drawn


def _enlarged(pixels: npt.NDArray[_Pixel], times: int) -> npt.NDArray[_Pixel]:
    return pixels if times == 1 else pixels.repeat(times, axis=0).repeat(times, axis=1)


def _enlarged_box(box: Box, times: int) -> Box:
    """The same pixels, first and last ones included."""
    x0, y0, x1, y1 = box
    return (x0 * times, y0 * times, x1 * times + times - 1, y1 * times + times - 1)


def contour(mask: Mask, thickness: int = 1) -> Mask:
    """Mark the pixels of a mask within `thickness` pixels of its edge; the image's border is an edge too."""
    inner = ndimage.binary_erosion(mask, iterations=thickness, border_value=0)
    return np.asarray(mask & ~inner)


def _frame(box: Box, shape: tuple[int, int], thickness: int) -> Mask:
    """A dashed frame on the box's own first and last columns and rows, as far as they are in the image."""
    height, width = shape
    # corners far outside are all alike, and larger than what an array holds
    far = 2 * max(shape)
    x0, y0, x1, y1 = (round(min(max(corner, -far), far)) for corner in box)
    rows, columns = np.ogrid[:height, :width]
    inside = (columns >= x0) & (columns <= x1) & (rows >= y0) & (rows <= y1)
    deep = (columns >= x0 + thickness) & (columns <= x1 - thickness)
    deep = deep & (rows >= y0 + thickness) & (rows <= y1 - thickness)
    dash = ((columns - x0 + rows - y0) // max(4, 4 * thickness)) % 2 == 0
    return np.asarray(inside & ~deep & dash)
