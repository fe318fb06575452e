"""Objects that are gone at the size at which a model is trained are named: such images teach it to find nothing."""

import warnings

from .._support.errors import MedcorePruneWarning
from .._support.words import few_of
from .pool import Pool

_HALF = 127


def warn_of_lost(pool: Pool, purpose: str) -> None:
    """Warn of images of a pool with an object that fills half of no pixel of it."""
    scenes = (pool.scene(place) for place in range(len(pool)))
    lost = [
        name
        for names, scene in zip(pool.names, scenes, strict=True)
        for name, mask in zip(names, scene.masks, strict=True)
        if int(mask.max()) <= _HALF
    ]
    if not lost:
        return
    size = pool.scene(0).masks.shape[-1]
    warnings.warn(
        f"{len(lost)} of {sum(pool.masks)} {purpose} images have an object that fills half of no pixel at "
        f"{size} px, at which the model is trained ({few_of(lost)}): they teach "
        "it to find nothing; give it a larger input, or leave them out",
        MedcorePruneWarning,
        stacklevel=3,
    )
