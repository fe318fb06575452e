"""Images with masks: folders, splits, prompts, phantoms."""

from . import phantoms
from .arrays import ArraySet, arrays
from .content import content_hash, image_hash, perceptual_hash
from .folder import FolderSet, folder
from .images import read_image, read_mask
from .layouts import LAYOUTS
from .near_duplicates import NearDuplicateWarning
from .prompts import box_from_mask, boxes_from_csv, jitter_box
from .splits import Data, Split, check_roles, split
from .subset import Subset
from .types import Box, Sample, SampleSet, subset_hash

__all__ = [
    "LAYOUTS",
    "ArraySet",
    "Box",
    "Data",
    "FolderSet",
    "NearDuplicateWarning",
    "Sample",
    "SampleSet",
    "Split",
    "Subset",
    "arrays",
    "box_from_mask",
    "boxes_from_csv",
    "check_roles",
    "content_hash",
    "folder",
    "image_hash",
    "jitter_box",
    "perceptual_hash",
    "phantoms",
    "read_image",
    "read_mask",
    "split",
    "subset_hash",
]
