"""The split that a checkpoint was made with, kept beside it, and the refusal of images that it was trained on."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..errors import DataError
from .near_duplicates import Look, looks_of, warn_between
from .split_manifest import LOOKS, read_manifest
from .splits import Split, split
from .types import SampleSet

_SHOWN = 3


def split_file(checkpoint: str | Path) -> Path:
    """Where the split of a checkpoint lies: `medsam.split.json` beside `medsam.pth`."""
    return Path(checkpoint).with_suffix(".split.json")


def split_beside(sets: Mapping[str, SampleSet], checkpoint: str | Path | None, seed: int = 0) -> tuple[Split, bool]:
    """Return the split that a checkpoint was made with, where it is known and of the same sets; else a new one.

    Args:
        sets: Data set name to samples.
        checkpoint: A weights file that may have a split beside it.
        seed: Of a new split.

    Returns:
        The split, and whether it is the known one.

    Raises:
        DataError: The images are no longer those of the known split, or cannot be split.
    """
    known = None if checkpoint is None else split_file(checkpoint)
    if known is None or not known.is_file() or set(Split.stored_hashes(known)) != set(sets):
        return split(sets, seed), False
    return Split.load(known, sets), True


def refuse_seen(chosen: Mapping[str, SampleSet], checkpoint: str | Path | None) -> None:
    """Refuse to report on images that a checkpoint was trained on, as far as the split beside it tells.

    Images that only look like those are named in a `NearDuplicateWarning`, unless the split's own check has named them.

    Raises:
        DataError: Some were; the first are named.
    """
    if checkpoint is None or not split_file(checkpoint).is_file():
        return
    stored = read_manifest(split_file(checkpoint))
    trained = {digest for samples in stored["train"].values() for digest in samples.values()}
    seen = [
        f"{name}/{sample}"
        for name, samples in chosen.items()
        for sample, digest in zip(samples.ids, samples.hashes(), strict=True)
        if digest in trained
    ]
    if seen:
        more = f" and {len(seen) - _SHOWN} more" if len(seen) > _SHOWN else ""
        raise DataError(
            f"{checkpoint} was trained on {', '.join(seen[:_SHOWN])}{more}: use the split that it was made with, the "
            "same --data and --split-seed"
        )
    # of the sets that the split knows, its own check has spoken
    others = {name: samples for name, samples in chosen.items() if name not in stored["train"]}
    warn_between(_looks_of_train(stored, str(checkpoint)), looks_of("reported", others))


def _looks_of_train(stored: Mapping[str, Any], checkpoint: str) -> list[Look]:
    return [
        Look(f"{dataset}/{sample} (trained on, {checkpoint})", digest)
        for dataset, samples in stored[LOOKS].items()
        for sample, digest in samples.items()
        if sample in stored["train"].get(dataset, {})
    ]
