"""DICOM files of one image, by pydicom where it is installed (the extra `dicom`)."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

_MISSING = "DICOM needs pydicom: pip install 'medcore-prune[dicom]'"


def read_dicom(path: Path) -> npt.NDArray[np.generic]:
    """Read an image as a viewer shows it: rescaled, through its first window, black as the lowest value.

    Gray images become uint8 by the linear function of DICOM PS3.3 C.11.2.1.2 where there is a window; without one their
    rescaled values are returned. MONOCHROME1 is turned round. Colours come as RGB.
    """
    data = _opened(path)
    if data.PhotometricInterpretation == "PALETTE COLOR":
        raise ValueError("a DICOM of palette colours: save it as .png")
    values = np.asarray(data.pixel_array)
    if values.ndim == 3:
        return values
    is_turned = data.PhotometricInterpretation == "MONOCHROME1"
    slope, intercept = float(getattr(data, "RescaleSlope", 1)), float(getattr(data, "RescaleIntercept", 0))
    centre, width = (_first(getattr(data, name, None)) for name in ("WindowCenter", "WindowWidth"))
    if centre is not None and width is not None:
        shown = _windowed(values * slope + intercept, centre, width)
        return np.rint(255.0 - shown if is_turned else shown).astype(np.uint8)
    if is_turned:
        # the negative of what is stored, in the same range
        lowest, highest = (
            (0, (1 << int(data.BitsStored)) - 1) if values.dtype.kind == "u" else (values.min(), values.max())
        )
        values = np.asarray(lowest + highest - values.astype(np.int64), values.dtype)
    return values if (slope, intercept) == (1, 0) else values * slope + intercept


def read_dicom_mask(path: Path) -> npt.NDArray[np.generic]:
    """Read the stored values, without rescaling or window."""
    return np.asarray(_opened(path).pixel_array)


def dicom_shape(path: Path) -> tuple[int, int] | None:
    """Return (H, W) from the header, or None where the whole file has to say what is wrong."""
    try:
        data = _dcmread(path, stop_before_pixels=True)
        return int(data.Rows), int(data.Columns)
    except Exception:
        return None


def dicom_spacing(path: Path) -> tuple[float, float] | None:
    """Return the distance of pixels in millimetres, from row to row and from column to column, where the file says it.

    That is `PixelSpacing` alone: distances on a detector (`ImagerPixelSpacing`) are not those in a patient.
    """
    spacing = getattr(_dcmread(path, stop_before_pixels=True), "PixelSpacing", None)
    return None if not spacing else (float(spacing[0]), float(spacing[1]))


def _windowed(values: npt.NDArray[np.float64], centre: float, width: float) -> npt.NDArray[np.float64]:
    if width < 1:
        raise ValueError(f"a window of width {width:g}, expected at least 1")
    share = (values - (centre - 0.5)) / max(width - 1, 1e-6) + 0.5
    return np.asarray(255.0 * np.clip(share, 0, 1))


def _first(values: Any) -> float | None:
    if values is None or values == "":
        return None
    return float(values[0] if isinstance(values, Sequence) and not isinstance(values, str) else values)


def _opened(path: Path) -> Any:
    data = _dcmread(path)
    if "PixelData" not in data:
        raise ValueError("a DICOM without pixels")
    if int(getattr(data, "NumberOfFrames", 1) or 1) > 1:
        raise ValueError(f"holds {data.NumberOfFrames} frames: save the ones that are meant, each as a file")
    return data


def _dcmread(path: Path, stop_before_pixels: bool = False) -> Any:
    try:
        from pydicom import dcmread
    except ImportError as error:
        raise ValueError(_MISSING) from error
    return dcmread(path, stop_before_pixels=stop_before_pixels)
