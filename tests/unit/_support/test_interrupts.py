import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from medcore_prune._support.files import atomic_write
from medcore_prune._support.progress import raise_lost, remembered, track

LOSES = """
import signal
import click
from medcore_prune.commands.group import run
from medcore_prune._support.progress import track

class Dies:
    def __del__(self):
        signal.raise_signal(signal.SIGINT)

@click.command()
def command():
    for number in track(range(5), "counting", total=5, show=False):
        print(number, flush=True)
        if number == 2:
            Dies()

run(command)
"""


class _Dies:
    def __del__(self) -> None:
        signal.raise_signal(signal.SIGINT)


def _count(seen: list[int]) -> None:
    with remembered():
        for number in track(range(5), "counting", total=5, show=False):
            seen.append(number)
            if number == 2:
                _Dies()  # the interrupt is raised as it dies, and dropped


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_dropped_interrupt_is_raised_at_the_next_step() -> None:
    seen: list[int] = []
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        _count(seen)
    assert seen == [0, 1, 2]
    assert signal.getsignal(signal.SIGINT) is before
    raise_lost()  # it is over with the block


def test_a_command_stops_by_a_dropped_interrupt() -> None:
    done = subprocess.run([sys.executable, "-c", LOSES], capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout.split()) == (130, ["0", "1", "2"])
    assert "\nstopped: " in done.stderr


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_that_arrives_is_raised_at_once_and_leaves_no_half_file(tmp_path: Path, number: int) -> None:
    def interrupted() -> None:
        with remembered(), atomic_write(tmp_path / "x.pt") as temporary:
            temporary.write_bytes(b"half")
            signal.raise_signal(number)

    before = signal.getsignal(number)
    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert list(tmp_path.iterdir()) == []
    assert signal.getsignal(number) is before


def test_other_threads_are_left_alone() -> None:
    seen: list[bool] = []
    before = signal.getsignal(signal.SIGINT)

    def work() -> None:
        with remembered():
            seen.append(signal.getsignal(signal.SIGINT) is before)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [True]
