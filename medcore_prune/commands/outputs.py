"""What a command writes: all of it is checked before the work."""

from collections.abc import Iterable
from pathlib import Path

from .._support.errors import WriteError
from .._support.files import refuse_existing, refuse_folders, refuse_overwriting, require_writable
from ..data.splits.beside import split_file
from ..data.splits.split import Split

_MODEL_SUFFIXES = (".safetensors", ".pth", ".pt")


def check_outputs(
    read: Iterable[str | Path | None], overwrite: bool, out: Path, *beside: Path | None, state: Path | None = None
) -> None:
    """Refuse outputs that cannot be written, that are read, or that are there, before the work.

    The split beside the model is held against what is there once the images are known: see `check_split`.

    Args:
        read: Files that the command reads; other words are passed over.
        overwrite: Whether what is there may be replaced.
        out: The model.
        beside: Further files that are to be made, or None.
        state: A file that is kept while the work goes on.

    Raises:
        WriteError: One line that names the file.
    """
    require_writable(out, *beside, split_file(out), state)
    refuse_overwriting(tuple(read), out, *beside, split_file(out), state)
    refuse_existing(overwrite, out, *beside)
    refuse_folders(split_file(out), state)


def check_split(roles: Split, out: Path, overwrite: bool) -> None:
    """Refuse to replace a split that another model beside it needs, or without being asked to.

    Raises:
        WriteError: Another split is there.
    """
    place = split_file(out)
    if not place.is_file() or roles.is_stored(place):
        return
    models = (out.with_suffix(suffix) for suffix in _MODEL_SUFFIXES)
    for model in models:
        if model != out and model.is_file():
            raise WriteError(f"{place} is the split of {model}, and this one differs: choose another name for --out")
    refuse_existing(overwrite, place)
