"""One rendered image with the masks of its objects."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True)
class Scene:
    """An image and its exact masks.

    Attributes:
        image: (size, size, 3) uint8, RGB.
        masks: (n, size, size) bool, the visible part of each object, none empty.
    """

    image: npt.NDArray[np.uint8]
    masks: npt.NDArray[np.bool_]
