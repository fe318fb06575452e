"""The split that a checkpoint was made with, kept beside it, and the refusal of images that it was trained on."""

import warnings
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from ..._support.errors import DataError, MedcorePruneWarning
from ..._support.words import few_of
from ..samples import SampleSet, image_hashes
from .manifest import Manifest, read_manifest
from .near_duplicates import Look, looks_of, warn_between
from .split import Split, known_names, load_split, split


class TrainedOnWarning(MedcorePruneWarning):
    """Images are evaluated that the model was trained on, so that the figures are too good."""


def split_file(checkpoint: str | Path) -> Path:
    """Where the split of a checkpoint lies: `medsam.split.json` beside `medsam.pth`."""
    return Path(checkpoint).with_suffix(".split.json")


def split_beside(sets: Mapping[str, SampleSet], checkpoint: str | Path | None, seed: int = 0) -> tuple[Split, bool]:
    """Return the split that a checkpoint was made with, where it knows all of the sets, and True; else a new one.

    Not all data sets of the checkpoint's split need be there, and they may have other names: they are known by their
    content. Refused: images that are no longer those of the known
    split, and a new split that would report on images that the checkpoint was trained on.
    """
    known = None if checkpoint is None else split_file(checkpoint)
    if known is None or not known.exists() or not set(sets) <= known_names(known, sets):
        return after(split(sets, seed), checkpoint), False
    return load_split(known, sets, some=True), True


def after(made: Split, checkpoint: str | Path | None) -> Split:
    """Return a new split that remembers what the checkpoint, which goes on with it, has seen; or refuse it."""
    if checkpoint is None or not split_file(checkpoint).exists():
        return made
    for role in (made.validation, made.test):
        refuse_seen(role, checkpoint)
    return replace(made, seen=read_manifest(split_file(checkpoint)).seen)


def refuse_seen(chosen: Mapping[str, SampleSet], checkpoint: str | Path | None) -> None:
    """Refuse to report on images that a checkpoint was trained on, as far as the split beside it tells.

    An image is known by its pixels, whatever its name, its mask and its box. Images that only look like those are named
    in a `NearDuplicateWarning`, unless they are of the split, whose own check has named them.
    """
    if seen := _seen(chosen, checkpoint):
        raise DataError(f"{seen}: use the split that it was made with, the same data sets and seed")


def warn_of_seen(chosen: Mapping[str, SampleSet], checkpoint: str | Path) -> None:
    """Warn of what `refuse_seen` refuses, for who may know better."""
    if seen := _seen(chosen, checkpoint):
        _warn(f"{seen}: on them it looks better than it is; evaluate the test part of its split, mp.data.Split.load")


def warn_of_trained(chosen: Mapping[str, SampleSet], images: Mapping[str, str]) -> None:
    """Warn of images that a model was trained on since it was loaded, by the SHA-256 of their pixels."""
    if not images:
        return
    seen = [
        f"{name}/{sample}"
        for name, samples in chosen.items()
        for sample, digest in zip(samples.ids, image_hashes(samples), strict=True)
        if digest in images
    ]
    if seen:
        _warn(f"the model was trained on {few_of(seen)}: on them it looks better than it is; evaluate other images")


def _warn(text: str) -> None:
    warnings.warn(text, TrainedOnWarning, stacklevel=4)


def _seen(chosen: Mapping[str, SampleSet], checkpoint: str | Path | None) -> str:
    """Say which images a checkpoint was trained on; "" for none, after those are named that look like such."""
    if checkpoint is None or not split_file(checkpoint).exists():
        return ""
    stored = read_manifest(split_file(checkpoint))
    # manifests without `seen` know samples alone
    trained = {digest for samples in stored.train.values() for digest in samples.values()}
    seen = [
        f"{name}/{sample}"
        for name, samples in chosen.items()
        for sample, whole, image in zip(samples.ids, samples.hashes(), image_hashes(samples), strict=True)
        if whole in trained or image in stored.seen
    ]
    if seen:
        return f"{checkpoint} was trained on {few_of(seen)}"
    known = {digest for name in stored.names for digest in stored.content(name)}
    others = {name: samples for name, samples in chosen.items() if not set(samples.hashes()) <= known}
    warn_between(_looks_of_train(stored, str(checkpoint)), looks_of("reported", others))
    return ""


def _looks_of_train(stored: Manifest, checkpoint: str) -> list[Look]:
    return [
        Look(f"{dataset}/{sample} (trained on, {checkpoint})", digest)
        for dataset, samples in stored.perceptual.items()
        for sample, digest in samples.items()
        if sample in stored.train.get(dataset, {})
    ]
