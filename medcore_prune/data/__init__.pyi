"""What `mp.data` offers; each is imported when it is first asked for."""

from . import phantoms as phantoms
from .folders.folder import FolderSet as FolderSet
from .folders.folder import folder as folder
from .folders.layouts import LAYOUTS as LAYOUTS
from .images import read_image as read_image
from .images import read_mask as read_mask
from .prompts import Box as Box
from .prompts import box_from_mask as box_from_mask
from .prompts import boxes_from_csv as boxes_from_csv
from .prompts import jitter_box as jitter_box
from .samples import ArraySet as ArraySet
from .samples import Sample as Sample
from .samples import SampleSet as SampleSet
from .samples import Subset as Subset
from .samples import arrays as arrays
from .samples import content_hash as content_hash
from .samples import image_hash as image_hash
from .samples import perceptual_hash as perceptual_hash
from .samples import subset_hash as subset_hash
from .splits.near_duplicates import NearDuplicateWarning as NearDuplicateWarning
from .splits.split import Data as Data
from .splits.split import Split as Split
from .splits.split import check_roles as check_roles
from .splits.split import split as split
