"""Masks of a data set in little memory: bits, compressed, since a mask is mostly long runs of one value."""

import zlib
from collections.abc import Sequence
from typing import overload

import numpy as np
import numpy.typing as npt

Mask = npt.NDArray[np.bool_]


class PackedMasks(Sequence[Mask]):
    """A row of (H, W) masks, each unpacked when it is asked for; some hundred bytes of a mask of 256 x 256."""

    def __init__(self, masks: Sequence[Mask] = ()) -> None:
        self._packed: dict[int, tuple[tuple[int, ...], bytes]] = {}
        for place, mask in enumerate(masks):
            self[place] = mask

    def __setitem__(self, place: int, mask: Mask) -> None:
        self._packed[place] = mask.shape, zlib.compress(np.packbits(mask).data, 1)

    def __len__(self) -> int:
        return len(self._packed)

    @property
    def nbytes(self) -> int:
        """Bytes of the packed masks."""
        return sum(len(packed) for _, packed in self._packed.values())

    @overload
    def __getitem__(self, place: int) -> Mask: ...
    @overload
    def __getitem__(self, place: slice) -> list[Mask]: ...
    def __getitem__(self, place: int | slice) -> Mask | list[Mask]:
        if isinstance(place, slice):
            return [self[each] for each in range(*place.indices(len(self)))]
        if not -len(self) <= place < len(self):
            raise IndexError(f"mask {place} of {len(self)}")
        shape, packed = self._packed[place % len(self)]
        bits = np.frombuffer(zlib.decompress(packed), dtype=np.uint8)
        return np.unpackbits(bits, count=int(np.prod(shape))).view(np.bool_).reshape(shape)
