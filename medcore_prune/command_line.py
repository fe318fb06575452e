"""What both command lines do with a user's mistake, an interrupt and a closed pipe; exit codes."""

import sys
import warnings
from typing import Any

import click

from ._support.errors import MedcorePruneError, MedcorePruneWarning
from ._support.progress import remembered

REFUSED, INTERRUPTED = 1, 130
"""Exit codes beside click's 0 for success and 2 for wrong usage."""


def _show_warning(message: Warning | str, category: type[Warning], *where: Any, **more: Any) -> None:
    """Print what this package warns of as one line; what others warn of is printed as Python does."""
    if issubclass(category, MedcorePruneWarning):
        click.echo(f"warning: {message}", err=True)
    else:
        _python_shows(message, category, *where, **more)


def _is_out_of_memory(error: Exception) -> bool:
    """Whether there was no memory; torch says so in an error of its own on a GPU, and in words alone elsewhere."""
    # by its name: what needs no torch must not wait for it
    of_torch = type(error).__name__ == "OutOfMemoryError" or "can't allocate memory" in str(error)
    return isinstance(error, MemoryError) or of_torch


_python_shows = warnings.showwarning


def run(command: click.Command) -> None:
    """Run a command and end with its exit code; what was to be expected is a message, never a traceback.

    0 is success, 1 what this package or the file system refuses, 2 wrong usage, 130 an interrupt. Any other error is a
    fault of the program and keeps its traceback. A reader that closes the pipe (`| head`) ends the command quietly.
    """
    warnings.showwarning = _show_warning
    try:
        with remembered():
            # click returns the code of an early exit, such as that of --help; commands themselves return nothing
            sys.exit(command(standalone_mode=False) or 0)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except click.Abort:
        click.echo("stopped: no file is left half-written; what can go on does when the command is repeated", err=True)
        sys.exit(INTERRUPTED)
    except MedcorePruneError as error:
        click.echo(f"error: {error}", err=True)
        sys.exit(REFUSED)
    except (MemoryError, RuntimeError) as error:
        if not _is_out_of_memory(error):
            raise
        click.echo("error: out of memory: use smaller images, a smaller batch or another device", err=True)
        sys.exit(REFUSED)
    except OSError as error:
        # a folder that cannot be written, a disk that is full
        click.echo(f"error: {error.filename or 'a file'}: {error.strerror or error}", err=True)
        sys.exit(REFUSED)
