from pathlib import Path

import pytest

from medcore_prune import zoo
from medcore_prune.files import sha256_of

# What every comparison stands on: frozen before the first one, and not reworked to please a method.
# The phantom images are pinned in tests/unit/data/test_phantoms.py.
FROZEN = {
    "pocket_reference.safetensors": "0c561bc28cbaa0615832546a3e2a07863aed293d83ae2ef1ce8f8b2a71410fa2",
    "pocket_adapted.safetensors": "e7033b5f7857d1f55480a4171e1d202d4c675c0df076cf0f250159d806daaaa4",
}


@pytest.mark.parametrize("name", FROZEN)
def test_weights_are_the_frozen_ones(name: str) -> None:
    assert sha256_of(Path(zoo.__file__).parent / name) == FROZEN[name]
