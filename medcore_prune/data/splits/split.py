"""Training, validation and test parts of data sets: by group, by seed, kept as a manifest with content hashes."""

import hashlib
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import TypeAlias, TypeGuard

from ..._support.errors import DataError
from ..._support.files import write_json_atomic
from ..frame import Frame
from ..samples import (
    SampleSet,
    Subset,
    image_hashes,
    only_training,
    own_roles,
    perceptual_hashes,
    places_by_image,
    renew,
)
from .manifest import ROLES, Manifest, abridged, differences, read_manifest, renamed
from .near_duplicates import warn_between_roles

FRACTIONS = (0.7, 0.1, 0.2)


@dataclass(frozen=True)
class Split:
    """Who may be trained on, who chosen by, who reported on.

    Attributes:
        train: Data set name to training samples; calibration draws from these.
        validation: For settling open choices.
        test: For reports, nothing else.
        seed: Of the draw.
        fractions: Shares of the three roles that were asked for.
        seen: Images that models before the one in hand were trained on: SHA-256 of the pixels to a place to name.
    """

    train: dict[str, SampleSet]
    validation: dict[str, SampleSet]
    test: dict[str, SampleSet]
    seed: int
    fractions: tuple[float, float, float]
    seen: Mapping[str, str] = field(default_factory=dict)

    def __repr__(self) -> str:
        sizes = {role: {name: len(part) for name, part in parts.items()} for role, parts in self.roles().items()}
        return f"Split({', '.join(f'{role} {parts}' for role, parts in sizes.items())}, seed {self.seed})"

    def roles(self) -> dict[str, dict[str, SampleSet]]:
        """Return the three roles by name."""
        return {"train": self.train, "validation": self.validation, "test": self.test}

    def calibration(self, n: int, seed: int = 0, size: int | Frame | None = None) -> dict[str, SampleSet]:
        """Draw calibration samples from the training part, `n` a data set, or all where there are fewer.

        The draw depends on the seed and the samples' names alone, and smaller draws begin larger ones.

        Args:
            n: Samples a data set, at least 1.
            seed: Of the draw.
            size: The model's input, or its side in pixels; images whose object vanishes there, which have no boundary
                to learn from, are passed over.

        Raises:
            DataError: `n` below 1, or a data set without any object that is left at `size`.
        """
        if n < 1:
            raise DataError(f"expected at least 1 calibration sample a data set, got {n}")
        frame = Frame(size) if isinstance(size, int) else size
        drawn: dict[str, SampleSet] = {}
        for name, samples in self.train.items():
            lots = [_lot(seed, "calibration", name, sample) for sample in samples.ids]
            order = sorted(range(len(samples)), key=lots.__getitem__)
            if frame is not None:
                order = list(islice((i for i in order if frame.mask(samples[i].mask).any()), min(n, len(samples))))
                if len(samples) and not order:
                    raise DataError(
                        f"{name}: no object of its {len(samples)} training images is left at {frame.size} px: leave "
                        "the data set out, or give the model a larger input"
                    )
            drawn[name] = Subset(samples, tuple(order[:n]), name)
        return drawn

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the split as a JSON manifest: each role's samples with their content and perceptual hashes.

        The images of the training part, and `seen`, are written as those that whoever comes next has seen.
        """
        write_json_atomic(path, self._manifest().values())

    def is_stored(self, path: str | os.PathLike[str]) -> bool:
        """Whether a file holds this very split.

        Raises:
            DataError: No manifest.
        """
        return read_manifest(Path(path)) == self._manifest()

    def _manifest(self) -> Manifest:
        roles = {
            role: {name: dict(zip(part.ids, part.hashes(), strict=True)) for name, part in parts.items()}
            for role, parts in self.roles().items()
        }
        looks: dict[str, dict[str, str]] = {}
        for parts in self.roles().values():
            for name, part in parts.items():
                looks.setdefault(name, {}).update(zip(part.ids, perceptual_hashes(part), strict=True))
        seen = {**self.seen, **places_by_image(self.train)}
        return Manifest(self.seed, self.fractions, **roles, perceptual=looks, seen=seen)

    @staticmethod
    def stored_hashes(path: str | os.PathLike[str], role: str | None = None) -> dict[str, set[str]]:
        """Read the content hashes of a manifest without its images.

        Args:
            path: What `save` wrote.
            role: One role, or None for all of them.

        Returns:
            Data set name to the hashes of its samples.

        Raises:
            DataError: No manifest.
        """
        stored = read_manifest(Path(path))
        found: dict[str, set[str]] = {}
        for each in ROLES if role is None else (role,):
            for name, samples in stored.role(each).items():
                found.setdefault(name, set()).update(samples.values())
        return found

    @staticmethod
    def load(path: str | os.PathLike[str], sets: Mapping[str, SampleSet]) -> "Split":
        """Read a manifest and find its samples again; warns of near duplicates as `split` does.

        Args:
            path: What `save` wrote.
            sets: The whole data sets; one of a name that the split does not know is known by its content.

        Raises:
            DataError: No manifest; samples that are missing, new, or whose pixels changed; an image in two roles.
        """
        return load_split(Path(path), sets)


Data: TypeAlias = Split | Mapping[str, SampleSet] | SampleSet
"""What functions take that learn from images or judge by them: a split, images by data set, or one data set."""


def split(
    sets: Mapping[str, SampleSet] | SampleSet, seed: int = 0, fractions: tuple[float, float, float] = FRACTIONS
) -> Split:
    """Split each data set into train, validation and test by group.

    Groups are drawn in an order that depends on the seed and their names alone, not on the order of files; each goes
    to the role that lacks the most samples. Every role asked for gets at least one group. Images of different roles
    that look the same are named in a `NearDuplicateWarning`.

    Where a data set has a split of its own (`roles`: a published one, or a manifest's column `split`) that is kept. A
    role that is asked for and that it lacks is drawn from its training part.

    Args:
        sets: Data set name to samples, or one data set.
        seed: Of the draw.
        fractions: Shares of train, validation and test; they sum to 1.

    Returns:
        The roles, samples in the order of their sets.

    Raises:
        DataError: Fractions that are none, a set with fewer groups than roles, names used twice, or the same image in
            two roles or two data sets.
    """
    _check_fractions(fractions)
    parts: dict[str, dict[str, SampleSet]] = {role: {} for role in ROLES}
    for name, samples in named_sets(sets, "a split").items():
        _check_ids(name, samples)
        assigned = _roles(name, samples, seed, fractions)
        for role in ROLES:
            chosen = tuple(i for i, of_sample in enumerate(assigned) if of_sample == role)
            if chosen:
                parts[role][name] = Subset(samples, chosen, name)
    check_roles(parts)
    warn_between_roles(parts)
    return Split(parts["train"], parts["validation"], parts["test"], seed, fractions)


def training_split(data: Data | None, purpose: str) -> Split:
    """Return a split; images without one, by data set or of one alone, are all of them for training.

    Of a data set that has a split of its own only the training part is.

    `purpose` says in messages what they are for.
    """
    if isinstance(data, Split):
        parts = data
    else:
        sets = {name: only_training(samples) for name, samples in named_sets(data, purpose).items()}
        parts = Split(sets, {}, {}, 0, (1.0, 0.0, 0.0))
    if not parts.train:
        raise DataError(f"{purpose} needs images: there is no training data set")
    if isinstance(data, Split):
        for each in (*parts.train.values(), *parts.validation.values(), *parts.test.values()):
            renew(each)
    return parts


def training_samples(
    data: Data | None, purpose: str, samples: int, seed: int, size: int | Frame | None = None
) -> dict[str, SampleSet]:
    """Draw training images, as `Split.calibration` does, from a split or from images by data set; none may be empty."""
    parts = training_split(data, purpose)
    if empty := [name for name, images in parts.train.items() if not len(images)]:
        raise DataError(f"{purpose} needs images: data set {empty[0]!r} has no training image: leave it out")
    return parts.calibration(samples, seed, size)


def named_sets(data: Mapping[str, SampleSet] | SampleSet | None, purpose: str) -> dict[str, SampleSet]:
    """Return data sets by name, of one set alone its own, as their files are now; `purpose` is for messages."""
    wanted = "images from mp.data.folder, mp.data.arrays or a class with the members of mp.data.SampleSet"
    if _is_set(data):
        renew(data)
        return {data.name: data}
    if not isinstance(data, Mapping):
        got = type(data).__name__
        raise DataError(f"{purpose} needs images: expected a split, {{name: images}}, or {wanted}; got {got}")
    for name, samples in data.items():
        if not _is_set(samples):
            raise DataError(f"{purpose}, data set {name!r}: expected {wanted}; got {type(samples).__name__}")
        renew(samples)
    return dict(data)


def _is_set(data: object) -> TypeGuard[SampleSet]:
    return all(hasattr(data, member) for member in ("name", "ids", "groups", "hashes", "__getitem__"))


def check_roles(roles: Mapping[str, Mapping[str, SampleSet]]) -> None:
    """Refuse images that are in two roles or in two data sets, by their pixels, and groups that are in two roles.

    All are named with both places.
    """
    seen: dict[str, tuple[str, str, str]] = {}
    role_of_group: dict[tuple[str, str], str] = {}
    images, groups = [], set()
    for role, parts in roles.items():
        for dataset, samples in parts.items():
            for name, digest in zip(samples.ids, image_hashes(samples), strict=True):
                first = seen.setdefault(digest, (role, dataset, name))
                if first[:2] != (role, dataset):
                    images.append(f"{first[1]}/{first[2]} ({first[0]}) = {dataset}/{name} ({role})")
            for group in samples.groups:
                first_role = role_of_group.setdefault((dataset, group), role)
                if first_role != role:
                    groups.add(f"{dataset}/{group} ({first_role} and {role})")
    if images:
        raise DataError(
            f"the same image in two roles or two data sets: {abridged(images)}; "
            "remove one, or give both one group in manifest.csv"
        )
    if groups:
        raise DataError(f"the same group in two roles: {abridged(sorted(groups))}; draw the split anew")


def _roles(name: str, samples: SampleSet, seed: int, fractions: tuple[float, float, float]) -> list[str]:
    """Return the role of each sample: its own, where the data set has a split of its own, else a drawn one."""
    own = own_roles(samples)
    if own is None:
        drawn = _assign(name, samples.groups, seed, fractions)
        return [drawn[group] for group in samples.groups]
    there = {role for role in own if role}
    if unknown := there - {*ROLES} or ({"no part for some samples"} if None in own else set()):
        raise DataError(f"{name}: its own split has {', '.join(sorted(unknown))}: expected {', '.join(ROLES)} for all")
    # what the data set's own split lacks is taken from its training part
    shares = [0.0 if role in there - {"train"} else share for role, share in zip(ROLES, fractions, strict=True)]
    if "train" not in there or sum(map(bool, shares)) < 2:
        return [str(role) for role in own]
    groups = [group for group, role in zip(samples.groups, own, strict=True) if role == "train"]
    train, validation, test = (share / sum(shares) for share in shares)
    drawn = _assign(name, groups, seed, (train, validation, test))
    return [drawn[group] if role == "train" else str(role) for group, role in zip(samples.groups, own, strict=True)]


def _assign(dataset: str, groups: Sequence[str], seed: int, fractions: tuple[float, float, float]) -> dict[str, str]:
    """Give each group a role: the one that lacks the most samples, empty roles first when groups run out."""
    sizes = Counter(groups)
    lacking = {role: fraction * len(groups) for role, fraction in zip(ROLES, fractions, strict=True) if fraction}
    if len(sizes) < len(lacking):
        raise DataError(
            f"{dataset}: expected at least {len(lacking)} groups for {', '.join(lacking)}, got {len(sizes)}: "
            "a group (video, patient, image) stays in one role; add images, or "
            "set the others' fractions to 0 (to evaluate alone: take all images, without a split)"
        )
    role_of: dict[str, str] = {}
    order = sorted(sizes, key=lambda group: _lot(seed, "split", dataset, group))
    for position, group in enumerate(order):
        empty = [role for role in lacking if role not in role_of.values()]
        open_roles = empty if len(order) - position == len(empty) else list(lacking)
        role = max(open_roles, key=lacking.__getitem__)
        role_of[group] = role
        lacking[role] -= sizes[group]
    return role_of


def _lot(seed: int, *what: str) -> bytes:
    return hashlib.sha256("\0".join((str(seed), *what)).encode()).digest()


def _check_fractions(fractions: tuple[float, float, float]) -> None:
    if len(fractions) != len(ROLES) or min(fractions) < 0 or not abs(sum(fractions) - 1) <= 1e-9:
        raise DataError(f"expected three fractions for {', '.join(ROLES)} that sum to 1, got {fractions}")


def _check_ids(name: str, samples: SampleSet) -> None:
    twice = [i for i, count in Counter(samples.ids).items() if count > 1]
    if twice:
        raise DataError(f"{name}: expected unique sample names, {abridged(twice)} come twice")


def known_names(path: Path, sets: Mapping[str, SampleSet]) -> set[str]:
    """Return the names of a manifest's data sets, those of `sets` for what has the same content."""
    return renamed(read_manifest(path), sets).names


def load_split(path: Path, sets: Mapping[str, SampleSet], some: bool = False) -> Split:
    """Read a manifest and find its samples again, as `Split.load`; with `some`, data sets of it may be left out."""
    stored = renamed(read_manifest(path), sets)
    names = stored.names
    absent = set(sets) - names if some else names ^ set(sets)
    if absent:
        raise DataError(f"{path}: expected the same data sets, differ in {', '.join(sorted(absent))}")
    problems: list[str] = []
    parts: dict[str, dict[str, SampleSet]] = {role: {} for role in ROLES}
    for name, samples in sets.items():
        wanted = {role: stored.role(role).get(name, {}) for role in ROLES}
        problems += differences(name, samples, wanted)
        position = {sample: index for index, sample in enumerate(samples.ids)}
        for role in ROLES:
            chosen = sorted(position[sample] for sample in wanted[role] if sample in position)
            if chosen:
                parts[role][name] = Subset(samples, tuple(chosen), name)
    if problems:
        raise DataError(f"{path}: the data are no longer those of the split: {'; '.join(problems)}")
    check_roles(parts)
    warn_between_roles(parts)
    return Split(parts["train"], parts["validation"], parts["test"], stored.seed, stored.fractions, stored.seen)
