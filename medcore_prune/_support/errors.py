"""Errors that a user can mend, and warnings: each message says what was expected, what came, and what to do."""

from collections.abc import Collection


class MedcorePruneError(ValueError):
    """Base of every error that this package raises on purpose."""


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


class MetricError(MedcorePruneError):
    """Masks that cannot be compared."""


class ResultsError(MedcorePruneError):
    """Stored results are damaged or belong to another experiment."""


def require_known(what: str, value: object, known: Collection[str], error: type[MedcorePruneError]) -> None:
    """Refuse a word that is none of the known ones."""
    if value not in known:
        raise error(f"unknown {what} {value!r}: expected one of {', '.join(known)}")
