"""A split as a file: which samples have which role, with their content hashes, checked as a whole when read."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, TypeAlias

from ..._support.errors import DataError
from ..._support.files import read_json_file
from ..._support.records import Record, Whole, matching, within
from ..samples import PERCEPTUAL_BITS, SampleSet

FORMAT = 1
ROLES = ("train", "validation", "test")

_MOST_LISTED = 20
_LOOK = matching(f"[0-9a-f]{{{(PERCEPTUAL_BITS + 1) // 4}}}", "perceptual hash")
_Share = Annotated[float, within(0, 1)]
_Hashes: TypeAlias = Mapping[str, Mapping[str, str]]
"""Data set name to sample name to content hash."""


@dataclass(frozen=True)
class Manifest(Record, format=FORMAT):
    """What `Split.save` writes.

    Attributes:
        seed, fractions: Of the draw.
        train, validation, test: Content hashes of a role's samples, by data set and sample.
        perceptual: Perceptual hashes likewise, of all roles; manifests written before there were any have none.
        seen: Hashes of the images that the model and those before it were trained on, each with a place to name; older
            manifests have none.
    """

    seed: Whole
    fractions: tuple[_Share, _Share, _Share]
    train: _Hashes
    validation: _Hashes
    test: _Hashes
    perceptual: Mapping[str, Mapping[str, Annotated[str, _LOOK]]] = field(default_factory=dict)
    seen: Mapping[str, str] = field(default_factory=dict)

    def role(self, name: str) -> _Hashes:
        """Samples of one of `ROLES`."""
        found: _Hashes = getattr(self, name)
        return found

    @property
    def names(self) -> set[str]:
        """Names of the data sets."""
        return {name for role in ROLES for name in self.role(role)}

    def content(self, name: str) -> Counter[str]:
        """Content hashes of a data set, over all roles."""
        return Counter(digest for role in ROLES for digest in self.role(role).get(name, {}).values())


def read_manifest(path: Path) -> Manifest:
    """Read what `Split.save` wrote; entries that cannot be are refused."""
    try:
        return Manifest.of(read_json_file(path))
    except (OSError, ValueError) as error:
        raise DataError(
            f"{path}: expected a split manifest of format {FORMAT} ({error}): make the split again"
        ) from error


def renamed(stored: Manifest, sets: Mapping[str, SampleSet]) -> Manifest:
    """Return a manifest with data sets and samples called as those of `sets` that have the very same content.

    Only names that the manifest does not know are looked for, and only among its sets that are not there by name.
    """
    absent = sorted(stored.names - set(sets))
    found: dict[str, tuple[str, dict[str, list[str]]]] = {}
    for name, samples in sets.items():
        if name in stored.names or not absent:
            continue
        called: dict[str, list[str]] = {}
        for sample, digest in zip(samples.ids, samples.hashes(), strict=True):
            called.setdefault(digest, []).append(sample)
        content = Counter({digest: len(names) for digest, names in called.items()})
        if old := next((each for each in absent if each not in found and stored.content(each) == content), None):
            found[old] = (name, called)
    if not found:
        return stored
    train, validation, test = (_renamed_role(stored.role(role), found) for role in ROLES)
    return replace(stored, train=train, validation=validation, test=test, perceptual={})


def _renamed_role(role: _Hashes, found: Mapping[str, tuple[str, Mapping[str, list[str]]]]) -> _Hashes:
    made: dict[str, Mapping[str, str]] = {}
    for old, samples in role.items():
        if old not in found:
            made[old] = samples
            continue
        name, called = found[old]
        # equal samples are all of one role: an image in two is refused
        made[name] = {sample: digest for digest in dict.fromkeys(samples.values()) for sample in called[digest]}
    return made


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
