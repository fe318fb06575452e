"""Progress in a terminal, in a log file, in a notebook and through a closed pipe."""

import os
import pty
import re
import subprocess
import sys
import time
import types

import pytest
import rich.console

from medcore_prune._support.progress import track

COUNTS = """
from medcore_prune._support.progress import track
for _ in track(range(3), "counting", total=2):
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
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, count: int, each_s: float, expected: int = 0
) -> list[str]:
    clock = _Clock()
    monkeypatch.setattr(time, "monotonic", clock)
    for _ in track(range(count), "counting", total=expected or count):
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


def test_more_than_was_expected_is_not_more_than_all(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = _logged(capsys, monkeypatch, 5, 60.0, expected=3)
    assert lines == [
        "counting: 1 of 3, about 2 min 0 s left",
        "counting: 2 of 3, about 1 min 0 s left",
        *(f"counting: {count} of {count}, about 0 s left" for count in (3, 4, 5)),
    ]


class _Outputs:
    """What a notebook would show: the states of each output of a cell."""

    def __init__(self) -> None:
        self.states: list[list[dict[str, str]]] = []

    def display(self, state: dict[str, str], *, raw: bool, display_id: bool) -> "_Outputs":
        assert raw
        assert display_id
        self.states.append([state])
        return self

    def update(self, state: dict[str, str], *, raw: bool) -> None:
        assert raw
        self.states[-1].append(state)


@pytest.fixture
def notebook(monkeypatch: pytest.MonkeyPatch) -> _Outputs:
    outputs = _Outputs()
    shell = types.ModuleType("IPython.display")
    shell.display = outputs.display  # type: ignore[attr-defined]
    monkeypatch.setattr(rich.console, "_is_jupyter", lambda: True)
    monkeypatch.setitem(sys.modules, "IPython", types.ModuleType("IPython"))
    monkeypatch.setitem(sys.modules, "IPython.display", shell)
    return outputs


def test_a_notebook_gets_one_output_that_is_replaced(
    notebook: _Outputs, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = _Clock()
    monkeypatch.setattr(time, "monotonic", clock)
    for _ in track(range(4), "a < b", total=6, done=2):
        clock.now_s += 10.0
    (states,) = notebook.states
    words = [state["text/plain"] for state in states]
    assert words[:2] == ["a < b: 2 of 6", "a < b: 3 of 6, about 30 s left"]
    assert words[-1] == "a < b: 6 of 6, took 40 s"
    assert states[-1]["text/html"] == '<progress max="6" value="6"></progress> a &lt; b: 6 of 6, took 40 s'
    assert capsys.readouterr() == ("", "")
    for _ in track(range(4), "more", total=2):
        pass
    assert notebook.states[-1][-1]["text/plain"].startswith("more: 4 of 4, ")


def test_a_notebook_does_not_count_what_failed(notebook: _Outputs, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = _Clock()
    monkeypatch.setattr(time, "monotonic", clock)
    work = track(range(4), "work", total=4)
    next(work)
    next(work)
    clock.now_s += 3.0
    work.close()
    assert notebook.states[0][-1]["text/plain"] == "work: 1 of 4, took 3 s"


def test_a_notebook_gets_few_messages_of_quick_work(notebook: _Outputs) -> None:
    for _ in track(range(100_000), "quick", total=100_000):
        pass
    assert len(notebook.states[0]) < 50


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
