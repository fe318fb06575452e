"""Drawn images are drawn once for all tests of this ring: commands ask for the same few again and again."""

from collections.abc import Iterator
from functools import lru_cache

import numpy as np
import pytest

from medcore_prune.data.phantoms import catalogue

_scene = lru_cache(maxsize=1024)(catalogue.scene)


def _drawn(set_name: str, seed: int, index: int, size: int = 128) -> tuple[np.ndarray, np.ndarray]:
    image, masks = _scene(set_name, seed, index, size)
    return image.copy(), masks.copy()


@pytest.fixture(scope="module", autouse=True)
def drawn_once() -> Iterator[None]:
    """In place of drawing; whoever gets a picture may write on it."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(catalogue, "scene", _drawn)
        yield
