"""What both command lines do with a user's mistake, and with an interrupt that got lost."""

import _thread
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import click
import torch

from .errors import MedcorePruneError


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


def _interrupt_main() -> None:
    """Interrupt the main thread, also where it waits."""
    if hasattr(signal, "pthread_kill"):
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
    else:
        _thread.interrupt_main()


@contextmanager
def interrupts_heard() -> Iterator[None]:
    """Raise an interrupt again that fell where Python drops exceptions: in a callback, or as an object dies."""
    before = sys.unraisablehook

    def hear(lost: "sys.UnraisableHookArgs") -> None:
        if issubclass(lost.exc_type, KeyboardInterrupt):
            # not at once, for here it would be dropped as well
            threading.Timer(0.05, _interrupt_main).start()
        else:
            before(lost)

    sys.unraisablehook = hear
    try:
        yield
    finally:
        sys.unraisablehook = before


def run(command: click.Command) -> None:
    """Run a command; a user's mistake is a message and exit code 1, never a traceback."""
    try:
        with interrupts_heard():
            command()
    except MedcorePruneError as error:
        click.echo(f"error: {error}", err=True)
        sys.exit(1)
    except OSError as error:
        # a folder that cannot be written, a disk that is full
        click.echo(f"error: {error.filename or 'a file'}: {error.strerror or error}", err=True)
        sys.exit(1)
