"""Masks as DICOM segmentations that refer to the image that they are of, by highdicom (the extra `dicom`)."""

import warnings
from collections.abc import Sequence
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from .._support.errors import DataError
from .._support.files import atomic_write
from .._support.version import __version__
from .masks import Mask
from .prompts import Box
from .readers import suffix_of

_EXTRA = ("pydicom", "highdicom")
_SUFFIXES = (".dcm", ".dicom")


def require_dicom(*images: Path) -> None:
    """Refuse images that are no DICOM files, or a missing extra, before the work whose result is to refer to them."""
    if missing := [name for name in _EXTRA if find_spec(name) is None]:
        raise DataError(f'DICOM segmentations need {", ".join(missing)}: pip install "medcore-prune[dicom]"')
    for image in images:
        if suffix_of(image) not in _SUFFIXES:
            raise DataError(
                f"{image}: a DICOM segmentation refers to the DICOM image that it is of, and this is none: expected a "
                f"file that ends in {' or '.join(_SUFFIXES)}; PNG takes masks of any image"
            )


def write_dicom_seg(
    path: Path, source: Path, masks: Sequence[Mask], boxes: Sequence[Box], model_name: str, model_hash: str
) -> None:
    """Write masks as one binary DICOM SEG, a segment an object, whole or not at all.

    What an object is the model does not know: segments are called *object 1* and so on, of the neutral category
    *Spatial and Relational Concept* and the type *Image Region*, and semi-automatic, for a box said where they are.

    Args:
        path: Where it goes.
        source: The DICOM image of one frame that the masks are of.
        masks: Each (H, W) bool, on the image's pixels; they may overlap or be empty.
        boxes: The box of each, in pixels of the image.
        model_name: Of the model, at most 64 characters are kept.
        model_hash: SHA-256 of the model.

    Raises:
        DataError: The extra is not installed, or the image lacks what a segmentation must repeat of it.
    """
    require_dicom(source)
    dicom: Any = import_module("pydicom")
    highdicom: Any = import_module("highdicom")
    try:
        image = dicom.dcmread(source)
        described = [
            _described(highdicom, number, box, model_name, model_hash) for number, box in enumerate(boxes, start=1)
        ]
        with warnings.catch_warnings():
            # an empty mask is an answer too
            warnings.simplefilter("ignore")
            made = highdicom.seg.Segmentation(
                source_images=[image],
                pixel_array=np.stack(masks, axis=-1)[None],
                segmentation_type=highdicom.seg.SegmentationTypeValues.BINARY,
                segment_descriptions=described,
                series_instance_uid=highdicom.UID(),
                series_number=1,
                sop_instance_uid=highdicom.UID(),
                instance_number=1,
                manufacturer="medcore-prune",
                manufacturer_model_name="medcore-prune",
                software_versions=__version__,
                device_serial_number=model_hash[:16],
                omit_empty_frames=False,
            )
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise DataError(f"{source}: no DICOM segmentation can refer to it ({reason}); PNG takes its masks") from error
    with atomic_write(path) as temporary:
        made.save_as(temporary)


def read_dicom_seg(path: Path) -> list[Mask]:
    """Read the masks of a segmentation that `write_dicom_seg` wrote: (H, W) bool, a segment each, in their order."""
    dicom: Any = import_module("pydicom")
    pixels = np.asarray(dicom.dcmread(path).pixel_array) > 0
    return list(pixels if pixels.ndim > 2 else pixels[None])


def _described(highdicom: Any, number: int, box: Box, model_name: str, model_hash: str) -> Any:
    codes: Any = import_module("pydicom.sr.codedict").codes
    # commas stand between parameters
    corners = " ".join(f"{corner:g}" for corner in box)
    algorithm = highdicom.AlgorithmIdentificationSequence(
        name=f"medcore-prune {model_name}"[:64],
        family=codes.DCM.ArtificialIntelligence,
        version=__version__,
        parameters={"model_sha256": model_hash, "box_x0_y0_x1_y1": corners},
    )
    return highdicom.seg.SegmentDescription(
        segment_number=number,
        segment_label=f"object {number}",
        segmented_property_category=codes.SCT.SpatialAndRelationalConcept,
        segmented_property_type=codes.DCM.ImageRegion,
        algorithm_type=highdicom.seg.SegmentAlgorithmTypeValues.SEMIAUTOMATIC,
        algorithm_identification=algorithm,
    )
