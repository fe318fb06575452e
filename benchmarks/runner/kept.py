"""Masks that a run has predicted, kept for its pictures: who wants them again need not make the model once more."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from ...evaluation.packed import PackedMasks

ROOM_BYTES = 64 << 20
"""Some hundred thousand masks of 256 x 256 pixels."""


class KeptMasks:
    """Masks of whole data sets by the key of their evaluation, which names all that they depend on.

    What comes when `room_bytes` are full is not kept.
    """

    def __init__(self, room_bytes: int = ROOM_BYTES) -> None:
        self._room = room_bytes
        self._found: dict[str, PackedMasks] = {}

    def keep(self, key: str, masks: PackedMasks) -> None:
        """Keep the masks of an evaluation, one a sample, if there is room for all of them."""
        if key not in self._found and masks.nbytes <= self._room:
            self._found[key] = masks
            self._room -= masks.nbytes

    def of(self, key: str, places: Sequence[int]) -> list[npt.NDArray[np.bool_]] | None:
        """Return the masks of some samples, (H, W) each, or None where those of the evaluation are not kept."""
        found = self._found.get(key)
        return None if found is None else [found[place] for place in places]
