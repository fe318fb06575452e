"""Errors that a user can mend, and warnings: each message says what was expected, what came, and what to do."""

from collections.abc import Collection


class MedcorePruneError(ValueError):
    """Base of every error that this package raises on purpose."""


class UnreadableError(MedcorePruneError):
    """A word that somebody gave is none that is known, or does not say what it should: wrong usage, no wrong data."""


class MedcorePruneWarning(UserWarning):
    """Base of every warning of this package: something is allowed that one would want to know of."""


class DataWarning(MedcorePruneWarning):
    """Images, masks or boxes can be used, but look as if something else was meant."""


class WriteError(MedcorePruneError, OSError):
    """A file cannot be written: a full disk, or a folder that may not be written to; what was there before is kept."""


class CheckpointError(MedcorePruneError):
    """A weights file is missing, is no checkpoint, or does not fit the model."""


class AlignmentError(MedcorePruneError):
    """The reference does not correspond to the adapted model parameter by parameter."""


class RegistryError(MedcorePruneError):
    """A name is unknown, taken, or not well formed."""


class UnknownNameError(RegistryError, UnreadableError):
    """Nothing is registered under a name."""


class CriterionError(MedcorePruneError):
    """A criterion cannot score what it is given, or returned scores that cannot be used."""


class BudgetError(MedcorePruneError):
    """A level, quota or plan asks for something that cannot be done."""


class SurgeryError(MedcorePruneError):
    """A plan does not fit the model that it is applied to."""


class StatisticsError(MedcorePruneError):
    """Calibration statistics are missing, damaged, or belong to another model."""


class DataError(MedcorePruneError):
    """Images, masks, prompts or splits cannot be used as they are."""


class WordsError(DataError, UnreadableError):
    """Words for data that cannot be read as such."""


class MetricError(MedcorePruneError):
    """Masks that cannot be compared."""


class ResultsError(MedcorePruneError):
    """Stored results are damaged or belong to another experiment."""


_NO_MEMORY = (
    "can't allocate memory",
    "Cannot allocate memory",
    "std::bad_alloc",
    "unable to mmap",
    "failed to map segment",
    "can't start new thread",
)
"""What torch, the loader of libraries and the system say in errors that are of no kind of their own."""


def is_out_of_memory(error: BaseException | None) -> bool:
    """Whether there was no memory, in an error or in what it came from; this package's own words do not count."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        # torch's error of a GPU by its name: what needs no torch must not wait for it
        if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
            return True
        if not isinstance(error, MedcorePruneError) and any(words in str(error) for words in _NO_MEMORY):
            return True
        error = error.__cause__
    return False


def require_known(what: str, value: object, known: Collection[str], error: type[MedcorePruneError]) -> None:
    """Refuse a word that is none of the known ones."""
    if value not in known:
        raise error(f"unknown {what} {value!r}: expected one of {', '.join(known)}")
