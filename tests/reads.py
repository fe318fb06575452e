"""Counts how often numbers are read out of tensors: each time a device has to finish all that it was asked before."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

from torch import Tensor

_READING = ("__bool__", "__float__", "__int__", "tolist")
"""But for `item`, by which torch's optimisers read their own counters, which lie on the CPU."""


@contextmanager
def counted(*others: str) -> Iterator[list[str]]:
    """Yield a list that gets a name for every read within the block; `others` are further methods that read."""
    seen: list[str] = []

    def counting(name: str) -> Any:
        own = getattr(Tensor, name)

        def read(tensor: Tensor, *args: Any) -> Any:
            seen.append(name)
            return own(tensor, *args)

        return read

    patches = [patch.object(Tensor, name, counting(name)) for name in (*_READING, *others)]
    for each in patches:
        each.start()
    try:
        yield seen
    finally:
        for each in patches:
            each.stop()
