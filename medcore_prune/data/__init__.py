"""Images with masks: folders, splits, prompts, phantoms."""

from . import phantoms
from .folders.folder import FolderSet, folder
from .folders.layouts import LAYOUTS
from .images import read_image, read_mask
from .prompts import Box, box_from_mask, boxes_from_csv, jitter_box
from .samples import ArraySet, Sample, SampleSet, Subset, arrays, content_hash, image_hash, perceptual_hash, subset_hash
from .splits.near_duplicates import NearDuplicateWarning
from .splits.split import Data, Split, check_roles, split

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
