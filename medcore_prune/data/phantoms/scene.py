"""One rendered image with the masks of its objects."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True)
class Scene:
    """An image, (size, size, 3) uint8 RGB, and its exact masks, (n, size, size) bool: what is visible of each."""

    image: npt.NDArray[np.uint8]
    masks: npt.NDArray[np.bool_]
