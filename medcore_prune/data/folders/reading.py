"""How folders of images are read, as a command's options say it; it imports nothing heavy."""

from typing import Literal, NamedTuple


class Reading(NamedTuple):
    """What `folder` takes beside a place and its layout.

    Attributes:
        mask_threshold: Stored value above which masks are object, `"half"` of their range, or None for what they tell.
        skip_bad: Leave out files that cannot be used.
        instances: Each connected part of a mask is a sample.
        smallest_px: Parts of fewer pixels are left out.
    """

    mask_threshold: float | Literal["half"] | None = None
    skip_bad: bool = False
    instances: bool = False
    smallest_px: int = 16


AS_IT_IS = Reading()
"""Folders read without any of the options."""
