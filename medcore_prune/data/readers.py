"""Which files hold images and masks, and what reads them, by the end of their names."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from .._support.registry import Names, Registry

Read = Callable[[Path], npt.NDArray[np.generic]]
Shape = Callable[[Path], tuple[int, int] | None]
Spacing = Callable[[Path], tuple[float, float] | None]


@dataclass(frozen=True)
class Reader:
    """What reads one kind of file.

    Attributes:
        read: The stored values of an image, (H, W) or (H, W, 1 to 4).
        read_mask: Those of a mask, which may differ: the numbers of a palette's colours.
        lossy: Whether values near each other are one value, as JPEG leaves them.
        shape: (H, W) from the header alone, or None where only the whole file can tell.
        spacing: Millimetres from row to row and from column to column, or None where the file does not say.
    """

    read: Read
    read_mask: Read
    lossy: bool = False
    shape: Shape | None = None
    spacing: Spacing | None = None


READERS: Registry[Reader] = Registry(
    "reader",
    "medcore_prune.data.stored",
    "medcore_prune.readers",
    lambda _, read: Reader(read, read),
    Names(r"(\.[a-z0-9]+)+", "the end of files' names in lower case, such as .nii or .nii.gz"),
)


def register_reader(
    *suffixes: str,
    lossy: bool = False,
    masks: Read | None = None,
    shape: Shape | None = None,
    spacing: Spacing | None = None,
) -> Callable[[Read], Read]:
    """Return a decorator of a function that reads image and mask files of a format.

    It takes a path and returns the stored values, (H, W) or (H, W, 1 to 4), of any number type: `read_image` scales
    them to 8 bits, `read_mask` tells object from background. What it raises becomes one line with the file's name.

    Args:
        suffixes: How such files' names end, in lower case: `".nii"`, `".nii.gz"`.
        lossy: Masks are cut at half of the range, so that noise of compression is background.
        masks: Reads a mask instead, where that differs.
        shape: Reads (H, W) from a header, for large files; it may return None to have the whole file read.
        spacing: Reads millimetres from row to row and from column to column; None where the file does not say.

    Raises:
        RegistryError: A suffix is badly formed or taken.
    """

    def prepare(_: str, read: Any) -> Reader:
        return Reader(read, masks or read, lossy, shape, spacing)

    def decorate(read: Read) -> Read:
        for suffix in suffixes:
            READERS.register(suffix, prepare=prepare)(read)
        return read

    return decorate


def suffix_of(path: Path) -> str | None:
    """Return the longest registered end of a file's name; None where nothing reads such files."""
    name = path.name.lower()
    return max((suffix for suffix in READERS.available() if name.endswith(suffix)), key=len, default=None)


def reader_of(path: Path) -> Reader | None:
    """Return what reads a file; None where nothing does."""
    suffix = suffix_of(path)
    return None if suffix is None else READERS.get(suffix)


def reader_for(path: Path) -> Reader:
    """Return what reads a file; one of no known suffix is tried as an image, which goes by its content."""
    return reader_of(path) or READERS.get(".png")
