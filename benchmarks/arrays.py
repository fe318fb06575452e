"""Stored arrays, which are measured again where they cannot be read."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt


def read_arrays(
    path: Path, digest: str | None = None, names: Sequence[str] | None = None
) -> dict[str, npt.NDArray[Any]] | None:
    """Read the arrays of an `.npz` file; None where it is missing, damaged, or of something else.

    Args:
        path: The file.
        digest: What its entry `digest` must say; None takes any.
        names: Which arrays; all of them by default.
    """
    try:
        with np.load(path, allow_pickle=False) as stored:
            if digest is not None and str(stored["digest"]) != digest:
                return None
            return {name: stored[name] for name in names or stored.files}
    except Exception:  # zipfile, zlib, struct and numpy each have errors of their own for damage
        return None
