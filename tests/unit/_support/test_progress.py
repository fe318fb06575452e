"""Progress in a terminal, in a log file, in a notebook and through a closed pipe."""

import os
import pty
import re
import subprocess
import sys
import time

import pytest
import rich.console

from medcore_prune._support import progress
from medcore_prune._support.progress import track

COUNTS = """
from medcore_prune._support.progress import track
for _ in track(range(3), "counting", total=3):
    pass
"""
PRINTS = """
import click
from medcore_prune.commands.group import run

@click.command()
def command():
    for number in range(100_000):
        click.echo(number)

run(command)
"""
_COLOUR = re.compile(r"\x1b\[[\d;]*3\d[\d;]*m")


def in_a_terminal(**environment: str) -> str:
    """What the example writes to a terminal of 80 columns."""
    ours, theirs = pty.openpty()
    plain = {name: value for name, value in os.environ.items() if name not in ("NO_COLOR", "FORCE_COLOR")}
    environment = {**plain, "TERM": "xterm-256color", "COLUMNS": "80", **environment}
    with subprocess.Popen([sys.executable, "-c", COUNTS], stdin=theirs, stderr=theirs, env=environment) as process:
        os.close(theirs)
        found = b""
        try:
            while part := os.read(ours, 4096):
                found += part
        except OSError:
            pass  # how Linux says that the other end is closed
        os.close(ours)
    assert process.returncode == 0
    return found.decode()


def test_a_terminal_gets_a_bar() -> None:
    shown = in_a_terminal()
    assert "counting" in shown
    assert "3/3" in shown
    assert "left" in shown
    assert _COLOUR.search(shown)
    assert shown.endswith(("\x1b[?25h", "\n"))  # the cursor is shown again


def test_no_colour_where_none_is_wanted() -> None:
    shown = in_a_terminal(NO_COLOR="1")
    assert "3/3" in shown
    assert not _COLOUR.search(shown)


def test_a_terminal_that_can_only_print_gets_no_control_characters() -> None:
    assert "\x1b" not in in_a_terminal(TERM="dumb")


class _Clock:
    """Time as the work takes it."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


def _logged(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, count: int, each_s: float
) -> list[str]:
    clock = _Clock()
    monkeypatch.setattr(time, "monotonic", clock)
    for _ in track(range(count), "counting", total=count):
        clock.now_s += each_s
    captured = capsys.readouterr()
    assert captured.out == ""
    return captured.err.splitlines()


def test_a_log_file_gets_few_plain_lines(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    lines = _logged(capsys, monkeypatch, 10_000, 3.0)
    assert 15 <= len(lines) <= 22
    assert all(
        re.fullmatch(r"counting: \d+ of 10000, about (\d+ h )?(\d+ min)?( ?\d+ s)? left", line) for line in lines
    )
    assert lines[0] == "counting: 500 of 10000, about 7 h 55 min left"


def test_a_log_file_gets_no_line_within_seconds(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert _logged(capsys, monkeypatch, 20, 1.0) == []
    assert len(_logged(capsys, monkeypatch, 100, 1.0)) == 3


@pytest.mark.parametrize("widgets", [True, False])
def test_a_notebook_gets_a_bar_where_it_can_show_one(monkeypatch: pytest.MonkeyPatch, widgets: bool) -> None:
    monkeypatch.setattr(rich.console, "_is_jupyter", lambda: True)
    monkeypatch.setattr(progress, "find_spec", lambda name: object() if widgets else None)
    assert progress._shows_bars() is widgets


def test_a_reader_that_goes_away_ends_the_command_quietly() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", PRINTS], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline() == "0\n"
        process.stdout.close()
        said = process.stderr.read()
    assert (process.returncode, said) == (1, "")
