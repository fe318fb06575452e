"""Objects that are gone at the size at which a model is trained are named: such images teach it to find nothing."""

import warnings
from collections.abc import Iterable

from .._support.errors import MedcorePruneWarning
from .._support.words import few_of
from ..data.samples import SampleSet
from .pool import Pool

_HALF = 127


def warn_of_lost(sets: Iterable[SampleSet], pool: Pool, purpose: str) -> None:
    """Warn of images of a pool, made of `sets` one mask an image, whose object fills half of no pixel of it."""
    names = [f"{samples.name}/{name}" for samples in sets for name in samples.ids]
    masks = (pool.scene(place).masks for place in range(len(names)))
    lost = [name for name, mask in zip(names, masks, strict=True) if int(mask.max()) <= _HALF]
    if not lost:
        return
    size = pool.scene(0).masks.shape[-1]
    warnings.warn(
        f"{len(lost)} of {len(names)} {purpose} images have an object that fills half of no pixel at "
        f"{size} px, at which the model is trained ({few_of(lost)}): they teach "
        "it to find nothing; give it a larger input, or leave them out",
        MedcorePruneWarning,
        stacklevel=3,
    )
