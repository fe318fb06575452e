"""Slices of volumes with label maps: NIfTI by nibabel (the extra `nifti`), and MedSAM-Lite's `.npz`.

A slice is read when it is asked for; the volume that was read last stays in memory.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache, wraps
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from .._support.errors import DataError
from .images import rgb_of

_MISSING = "NIfTI needs nibabel: pip install 'medcore-prune[nifti]'"
_MM = {"mm": 1.0, "meter": 1000.0, "micron": 0.001}
_KEPT = 4
MOST_VALUES = 1 << 29
"""Numbers in one volume; more is refused before memory is taken."""

T = TypeVar("T")
Volume = npt.NDArray[np.generic]


def _kept(read: Callable[..., T]) -> Callable[..., T]:
    """Keep what a function of a path gave last, as long as the file is the same."""

    @lru_cache(maxsize=_KEPT)
    def of_file(_: tuple[int, int], path: Path, *rest: Any) -> T:
        return read(path, *rest)

    @wraps(read)
    def current(path: Path, *rest: Any) -> T:
        try:
            stamp = path.stat()
        except OSError as error:
            raise DataError(f"{path}: no such file; expected a volume") from error
        return of_file((stamp.st_mtime_ns, stamp.st_size), path, *rest)

    return current


def _line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__


@dataclass(frozen=True)
class Slice:
    """One plane of a volume.

    Attributes:
        image, labels: The files, which may be one.
        read: Reads an image's or a label map's volume, (planes, H, W) or (planes, H, W, 3), by path and which of both.
        index: Number of the plane.
    """

    image: Path
    labels: Path
    read: Callable[[Path, bool], Volume]
    index: int

    def pixels(self) -> npt.NDArray[np.uint8]:
        """(H, W, 3) uint8: more than 8 bits are scaled by the plane's own range."""
        return rgb_of(self.read(self.image, False)[self.index], self.image)

    def mask(self, label: int) -> npt.NDArray[np.bool_]:
        """(H, W) bool of one label."""
        return np.asarray(self.read(self.labels, True)[self.index] == label)


@_kept
def nifti_planes(path: Path, labels: bool, axis: int) -> Volume:
    """Read a volume as planes across an axis of the body: 0 sagittal, 1 coronal, 2 axial; head or front is up."""
    values = np.asarray(_canonical(path).dataobj)
    if labels:
        values = _whole(values, path)
    planes = np.moveaxis(values, axis, 0)
    return np.rot90(planes, axes=(1, 2))


def nifti_spacing(path: Path, axis: int) -> tuple[float, float] | None:
    """Return millimetres from row to row and from column to column of such planes; None where the unit is not said."""
    header = _canonical(path).header
    scale = _MM.get(header.get_xyzt_units()[0])
    columns, rows = (float(side) for n, side in enumerate(header.get_zooms()[:3]) if n != axis)
    return None if scale is None or min(rows, columns) <= 0 else (rows * scale, columns * scale)


def nifti_grid(path: Path) -> tuple[tuple[int, ...], npt.NDArray[np.float64]]:
    """Return a volume's shape and where its voxels lie in the body, (4, 4)."""
    volume = _canonical(path)
    return tuple(volume.shape), np.asarray(volume.affine, dtype=np.float64)


@_kept
def _canonical(path: Path) -> Any:
    try:
        import nibabel
    except ImportError as error:
        raise DataError(f"{path}: {_MISSING}") from error
    try:
        volume: Any = nibabel.load(path)
        shape = tuple(volume.shape)
        if len(shape) != 3 or not 0 < np.prod(shape, dtype=np.float64) <= MOST_VALUES:
            raise ValueError(f"a volume of shape {shape}, expected three dimensions")
        return nibabel.as_closest_canonical(volume)
    except Exception as error:
        raise DataError(
            f"{path}: expected a NIfTI volume, could not read it ({' '.join(str(error).split())})"
        ) from error


@_kept
def npz_planes(path: Path, labels: bool) -> Volume:
    """Read `imgs` or `gts` of a file as planes; a single image is one plane."""
    name = "gts" if labels else "imgs"
    try:
        with np.load(path, allow_pickle=False) as held:
            if name not in held:
                raise ValueError(f"holds {', '.join(held)}, expected imgs and gts")
            values = np.asarray(held[name])
    except Exception as error:
        raise DataError(
            f"{path}: expected MedSAM's .npz, could not read it ({' '.join(str(error).split())})"
        ) from error
    is_single = values.ndim == 2 or (values.ndim == 3 and values.shape[2] == 3 and not labels)
    planes = values[None] if is_single else values
    if planes.ndim not in (3, 4) or (planes.ndim == 4 and planes.shape[3] != 3) or not planes.size:
        raise DataError(f"{path}: expected {name} of shape (H, W), (H, W, 3) or (D, H, W), got {values.shape}")
    return _whole(planes, path) if labels else planes


def _whole(values: Volume, path: Path) -> Volume:
    numbers = values if values.dtype.kind in "bui" else values.astype(np.int32)
    if numbers.min(initial=0) < 0 or (numbers is not values and not np.array_equal(numbers, values)):
        raise DataError(f"{path}: expected a label map of whole numbers from 0 on")
    return numbers
