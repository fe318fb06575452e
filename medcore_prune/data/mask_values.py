"""What the values of a mask file mean: object or background, labels or shades."""

from pathlib import Path

import numpy as np
import numpy.typing as npt

from ..errors import DataError

_FEW = 32  # distinct colours up to which a lossless mask is taken for classes rather than shades


def binarise(values: npt.NDArray[np.generic], lossy: bool = False) -> npt.NDArray[np.bool_]:
    """Cut (H, W) mask values into object and background by the rule of `read_mask`."""
    if values.dtype == np.bool_:
        return values.astype(bool)
    numbers = values.astype(np.float64) if values.dtype.kind == "f" else values.astype(np.int64)
    peak = float(numbers.max(initial=0))
    full = _full_range(values.dtype, peak)
    whole = numbers.dtype.kind == "i" or np.array_equal(numbers, np.rint(numbers))
    labels = (whole and peak <= full / 2) or bool(np.all((numbers == 0) | (numbers == peak)))
    return np.asarray(numbers > (0 if labels and not lossy else full / 2))


def refuse_void(values: npt.NDArray[np.generic], path: Path) -> None:
    """Refuse labels from 1 on beside a value near the end of the range."""
    if values.dtype != np.uint8:
        return
    found = np.setdiff1d(values, 0)
    if 1 < len(found) <= _FEW and found[0] == 1 and found[-1] > 127:
        raise DataError(
            f"{path}: holds the values {', '.join(map(str, found))}: neither a 0/255 mask nor labels alone; save what "
            "is object as 255 and all else as 0"
        )


def few_colours(values: npt.NDArray[np.generic]) -> bool:
    """Whether the channels differ and the colours are so few that each must be a class."""
    if values.ndim != 3 or values.shape[2] != 3 or values.dtype != np.uint8:
        return False
    if np.array_equal(values[:, :, 0], values[:, :, 1]) and np.array_equal(values[:, :, 1], values[:, :, 2]):
        return False
    codes = values.astype(np.int64) @ np.array([1 << 16, 1 << 8, 1])
    return len(np.unique(codes)) <= _FEW


def one_channel(values: npt.NDArray[np.generic], path: Path) -> npt.NDArray[np.generic]:
    """Return the (H, W) values that a mask is in: the brightest channel, or alpha if that is all that varies."""
    channels = channels_last(values, path)
    if channels.dtype.kind == "f" and not np.isfinite(channels.astype(np.float64)).all():
        raise DataError(f"{path}: expected finite mask values, got NaN or infinity")
    if channels.shape[2] in (2, 4):
        colours, alpha = channels[:, :, :-1], channels[:, :, -1]
        if not np.ptp(colours) and np.ptp(alpha):
            return alpha
        channels = colours
    return np.asarray(channels.max(axis=2))


def channels_last(values: npt.NDArray[np.generic], path: Path) -> npt.NDArray[np.generic]:
    """Return (H, W, 1 to 4) values, or refuse another shape."""
    values = values[:, :, None] if values.ndim == 2 else values
    if values.ndim != 3 or values.shape[2] not in (1, 2, 3, 4) or 0 in values.shape:
        raise DataError(f"{path}: expected an image of shape (H, W) or (H, W, 1 to 4), got {values.shape}")
    return values


def _full_range(dtype: np.dtype[np.generic], peak: float) -> float:
    if dtype.kind == "f":
        return 1.0 if peak <= 1.0 else 255.0
    # wider integers than 16 bits hold labels or 8- and 16-bit values
    return 255.0 if peak <= 255 and dtype.itemsize != 2 else 65535.0
