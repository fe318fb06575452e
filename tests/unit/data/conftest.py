"""Tiny image folders made on the spot."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

Save = Callable[..., Path]


@pytest.fixture
def save() -> Save:
    """Write an array as an image file of the suffix's format, parents included."""

    def write(path: Path, pixels: np.ndarray, **options: object) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix == ".npy":
            np.save(path, pixels)
        else:
            Image.fromarray(pixels).save(path, **options)
        return path

    return write


@pytest.fixture
def picture() -> Callable[[int], np.ndarray]:
    """Return a different (8, 10, 3) image for each number."""
    return lambda number: np.random.default_rng(number).integers(0, 256, (8, 10, 3), dtype=np.uint8)


@pytest.fixture
def square() -> Callable[..., np.ndarray]:
    """Return an (8, 10) mask of 0 and `value` with a 4 x 4 square whose left upper corner is given."""

    def draw(x: int = 2, y: int = 2, value: int = 255) -> np.ndarray:
        mask = np.zeros((8, 10), dtype=np.uint8)
        mask[y : y + 4, x : x + 4] = value
        return mask

    return draw


@pytest.fixture
def pairs(tmp_path: Path, save: Save, picture: Callable, square: Callable) -> Path:
    """Return a folder `set/` of three images a, b, c with masks."""
    root = tmp_path / "set"
    for number, name in enumerate("abc"):
        save(root / "images" / f"{name}.png", picture(number))
        save(root / "masks" / f"{name}.png", square(x=number))
    return root
