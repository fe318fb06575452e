"""Images of different roles that look the same though their pixels differ: who was trained on is nearly reported on."""

import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import numpy.typing as npt

from ..._support.errors import MedcorePruneWarning
from ..samples import PERCEPTUAL_BITS, SampleSet, perceptual_hashes

LARGEST_DISTANCE = 24
"""Bits of 255 up to which two images are called near duplicates.

Measured on five sets of real images (endoscopy, wounds, nuclei, photographs; 1,526 scenes of 160 to 256 px). Of half a
million pairs of one set that show different photographs or video sequences none is closer than 28, of pairs from two
sets none than 60, of pairs of phantoms none than 52: no false alarm. Of copies saved as JPEG at quality 60, halved or
blurred 99.8 % and more are found, of copies made a fifth brighter 97 %, of copies that lost 1 % at each side 38 to
92 %, of copies that lost 3 % next to none. Neighbouring frames of a video, which move, are found in 3 % of cases:
this does not replace groups.
"""

_ROWS = 1024  # of distances held at a time: 40 MB beside 10,000 images
_SHOWN = 3


class NearDuplicateWarning(MedcorePruneWarning):
    """Images of different roles look the same, so that a report may be too good."""


@dataclass(frozen=True)
class Look:
    """How an image looks, its `perceptual_hash`, and where it is: data set, name and role, for messages."""

    place: str
    digest: str


def looks_of(role: str, sets: Mapping[str, SampleSet]) -> list[Look]:
    """Return the looks of all images of a role."""
    return [
        Look(f"{dataset}/{name} ({role})", digest)
        for dataset, samples in sets.items()
        for name, digest in zip(samples.ids, perceptual_hashes(samples), strict=True)
    ]


def warn_between_roles(roles: Mapping[str, Mapping[str, SampleSet]]) -> None:
    """Warn once of all images of different roles, given as role to data set name to samples, that look the same."""
    _warn(combinations([looks_of(role, sets) for role, sets in roles.items()], 2))


def warn_between(first: Sequence[Look], second: Sequence[Look]) -> None:
    """Warn once of all images of the first that look like one of the second."""
    _warn([(first, second)])


def near_pairs(first: Sequence[Look], second: Sequence[Look]) -> Iterator[npt.NDArray[np.int64]]:
    """Find the pairs at most `LARGEST_DISTANCE` bits apart: (pairs, 2) positions in the first and in the second.

    Of vectors of 1 and -1 the product counts the bits that agree less those that differ: one matrix product for all.
    They come block after block of the first, so that memory grows with the images and not with their pairs.
    """
    if not first or not second:
        return
    columns = _signs(second).T
    least = PERCEPTUAL_BITS - 2 * LARGEST_DISTANCE
    for start in range(0, len(first), _ROWS):
        near = np.argwhere(_signs(first[start : start + _ROWS]) @ columns >= least)
        yield near + np.array([start, 0])


def _signs(looks: Sequence[Look]) -> npt.NDArray[np.float32]:
    packed = np.frombuffer(bytes.fromhex("".join(look.digest for look in looks)), dtype=np.uint8)
    bits = np.unpackbits(packed.reshape(len(looks), -1), axis=1)[:, :PERCEPTUAL_BITS]
    return bits.astype(np.float32) * 2 - 1


def _warn(sides: Iterable[tuple[Sequence[Look], Sequence[Look]]]) -> None:
    shown: list[str] = []
    count = 0
    for first, second in sides:
        for pairs in near_pairs(first, second):
            shown += [f"{first[i].place} ~ {second[j].place}" for i, j in pairs[: _SHOWN - len(shown)]]
            count += len(pairs)
    if count:
        more = f" and {count - len(shown)} more" if count > len(shown) else ""
        warnings.warn(
            f"near duplicates across roles, {count} pair{'s' * (count > 1)}: {', '.join(shown)}{more}; results on "
            "images that were nearly trained on are too good: remove them, or give images of one scene one group in "
            "manifest.csv",
            NearDuplicateWarning,
            stacklevel=4,
        )
