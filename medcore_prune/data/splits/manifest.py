"""A split as a file: which samples have which role, with their content hashes, checked as a whole when read."""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..._support.errors import DataError
from ..._support.files import read_json_file
from ..samples import PERCEPTUAL_BITS, SampleSet

FORMAT = 1
ROLES = ("train", "validation", "test")
LOOKS = "perceptual"
"""Where the perceptual hashes lie, by data set and sample; manifests written before there were any have none."""
SEEN = "seen"
"""Where the hashes of images lie that the model and those before it were trained on, each with a place to name; older
manifests have none."""

_MOST_LISTED = 20
_DIGITS = (PERCEPTUAL_BITS + 1) // 4


def read_manifest(path: Path) -> dict[str, Any]:
    """Read what `Split.save` wrote.

    Returns:
        `seed`, `fractions`, for each role data set name to sample name to content hash, `LOOKS` likewise without
        roles, and `SEEN`.

    Raises:
        DataError: No split manifest, or one with entries that cannot be.
    """
    try:
        stored = read_json_file(path)
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: expected a split manifest, could not read it ({error})") from error
    needed = {"format", "seed", "fractions", *ROLES}
    if not isinstance(stored, dict) or not needed <= stored.keys() or stored["format"] != FORMAT:
        raise DataError(f"{path}: expected a split manifest of format {FORMAT} with {', '.join(sorted(needed))}")
    stored.setdefault(LOOKS, {})
    stored.setdefault(SEEN, {})
    wrong = [role for role in ROLES if not _is_role(stored[role])]
    wrong += [] if _are_looks(stored[LOOKS]) else [LOOKS]
    wrong += [] if _is_role({SEEN: stored[SEEN]}) else [SEEN]
    wrong += [] if type(stored["seed"]) is int else ["seed"]
    wrong += [] if _are_fractions(stored["fractions"]) else ["fractions"]
    if wrong:
        raise DataError(f"{path}: {', '.join(wrong)} of the split manifest cannot be: make the split again")
    return stored


def _is_role(stored: object) -> bool:
    """Whether it is a mapping of data sets to mappings of sample names to hashes."""
    return isinstance(stored, dict) and all(
        isinstance(samples, dict) and all(isinstance(value, str) for value in samples.values())
        for samples in stored.values()
    )


def _are_looks(stored: object) -> bool:
    """Whether it is a mapping of data sets to mappings of sample names to perceptual hashes."""
    return _is_role(stored) and all(
        len(digest) == _DIGITS and set(digest) <= set("0123456789abcdef")
        for samples in stored.values()  # type: ignore[attr-defined]
        for digest in samples.values()
    )


def _are_fractions(stored: object) -> bool:
    return (
        isinstance(stored, list)
        and len(stored) == len(ROLES)
        and all(type(value) in (int, float) and 0 <= value <= 1 for value in stored)
    )


def differences(name: str, samples: SampleSet, wanted: Mapping[str, Mapping[str, str]]) -> list[str]:
    """Say which samples of a set are missing, new, changed, or in two roles."""
    listed = [sample for role in ROLES for sample in wanted[role]]
    digest = {sample: value for role in ROLES for sample, value in wanted[role].items()}
    now = dict(zip(samples.ids, samples.hashes(), strict=True))
    kinds = {
        "missing": digest.keys() - now.keys(),
        "new": now.keys() - digest.keys(),
        "changed": {sample for sample in digest.keys() & now.keys() if digest[sample] != now[sample]},
        "in two roles": {sample for sample, count in Counter(listed).items() if count > 1},
    }
    return [f"{kind} in {name}: {abridged(sorted(found))}" for kind, found in kinds.items() if found]


def abridged(what: Sequence[str]) -> str:
    """Join the first of many, and say how many more there are."""
    more = f", and {len(what) - _MOST_LISTED} more" if len(what) > _MOST_LISTED else ""
    return ", ".join(what[:_MOST_LISTED]) + more
