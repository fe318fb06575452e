import subprocess
import sys
import time

import pytest

from medcore_prune.command_line import interrupts_heard

LOSES = """
import signal, time
import click
from medcore_prune.command_line import run

class Dies:
    def __del__(self):
        signal.raise_signal(signal.SIGINT)

@click.command()
def command():
    Dies()
    print("goes on", flush=True)
    time.sleep(60)
    print("to its end", flush=True)

run(command)
"""


class _Dies:
    def __del__(self) -> None:
        raise KeyboardInterrupt


def _lose_one() -> None:
    with interrupts_heard():
        _Dies()
        time.sleep(60)


def test_an_interrupt_that_python_drops_is_raised_again() -> None:
    before, start = sys.unraisablehook, time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        _lose_one()
    assert time.monotonic() - start < 30
    assert sys.unraisablehook is before


def test_a_command_stops_by_an_interrupt_that_python_drops() -> None:
    done = subprocess.run([sys.executable, "-c", LOSES], capture_output=True, text=True, timeout=45)
    assert (done.returncode, done.stdout) == (1, "goes on\n")
    assert "Aborted" in done.stderr


def test_other_dropped_errors_are_still_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    class Fails:
        def __del__(self) -> None:
            raise ValueError("dropped")

    seen: list[object] = []
    monkeypatch.setattr(sys, "unraisablehook", lambda lost: seen.append(lost.exc_value))
    with interrupts_heard():
        Fails()
    assert [str(error) for error in seen] == ["dropped"]
