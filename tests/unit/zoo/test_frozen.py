from pathlib import Path

import pytest

from medcore_prune import zoo
from medcore_prune._support.files import sha256_of

# What every comparison stands on: frozen before the first one, and not reworked to please a method.
# The phantom images are pinned in tests/unit/data/test_phantoms.py.
FROZEN = {
    "pocket_reference.safetensors": "7cccfe1eafa8cbe01b672a09e7aad8ef6d9ba83816963cbb65ef9eadca02232b",
    "pocket_adapted.safetensors": "3b4ee3ef6a1c8a5cea6c0949352a11412ac46ed8f8722b573ec9c4255865e3e0",
}


@pytest.mark.parametrize("name", FROZEN)
def test_weights_are_the_frozen_ones(name: str) -> None:
    assert sha256_of(Path(zoo.__file__).parent / name) == FROZEN[name]
