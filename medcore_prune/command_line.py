"""What both command lines do with a user's mistake."""

import sys
import warnings
from typing import Any

import click
import torch

from .data.near_duplicates import NearDuplicateWarning
from .errors import MedcorePruneError
from .interrupts import remembered


def check_device(name: str) -> None:
    """Refuse a device that torch cannot use here.

    Raises:
        MedcorePruneError: In one line, with torch's own reason.
    """
    try:
        torch.zeros(1, device=name)
    except (RuntimeError, AssertionError) as error:
        reason = (str(error).splitlines() or [""])[0][:100]
        raise MedcorePruneError(
            f"--device {name}: not usable here ({reason}); expected cpu, or cuda on a GPU"
        ) from error


def _show_warning(message: Warning | str, category: type[Warning], *where: Any, **more: Any) -> None:
    """Print what this package warns of as one line; what others warn of is printed as Python does."""
    if issubclass(category, NearDuplicateWarning):
        click.echo(f"warning: {message}", err=True)
    else:
        _python_shows(message, category, *where, **more)


def _is_out_of_memory(error: Exception) -> bool:
    """Whether there was no memory; torch says so in an error of its own on a GPU, and in words alone elsewhere."""
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or "can't allocate memory" in str(error)


_python_shows = warnings.showwarning


def run(command: click.Command) -> None:
    """Run a command; a user's mistake is a message and exit code 1, never a traceback."""
    warnings.showwarning = _show_warning
    try:
        with remembered():
            command()
    except MedcorePruneError as error:
        click.echo(f"error: {error}", err=True)
        sys.exit(1)
    except (MemoryError, RuntimeError) as error:
        if not _is_out_of_memory(error):
            raise
        click.echo("error: out of memory: use smaller images, a smaller batch or another device", err=True)
        sys.exit(1)
    except OSError as error:
        # a folder that cannot be written, a disk that is full
        click.echo(f"error: {error.filename or 'a file'}: {error.strerror or error}", err=True)
        sys.exit(1)
