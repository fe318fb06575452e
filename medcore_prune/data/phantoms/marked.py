"""Drawn images as files: each says in its header that it was drawn, and so goes on saying it wherever it is copied."""

import os
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from ..._support.files import not_a_file
from ..samples import SampleSet

_KEYWORD, _DRAWN = "Source", "medcore_prune phantoms: a synthetic image"


def save_drawn(pixels: npt.NDArray[np.uint8], path: str | os.PathLike[str]) -> None:
    """Write a drawn image, (H, W, 3) or (H, W), as PNG that says what it is."""
    about = PngInfo()
    about.add_text(_KEYWORD, _DRAWN)
    Image.fromarray(pixels).save(path, format="PNG", pnginfo=about)


def is_drawn(path: str | os.PathLike[str]) -> bool:
    """Whether a file is one that `save_drawn` wrote, by its header, which programs that save it again may lose."""
    if Path(path).suffix.lower() != ".png" or not_a_file(path):
        return False
    try:
        with Image.open(path, formats=("PNG",)) as image:
            return image.info.get(_KEYWORD) == _DRAWN
    except Exception:
        # what is wrong with the file is said by who reads it
        return False


def is_synthetic(samples: SampleSet) -> bool:
    """Whether images of a data set are drawn (`synthetic`); sets that do not say so are taken as real."""
    return bool(getattr(samples, "synthetic", False))
