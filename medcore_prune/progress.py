"""Progress with time left: a bar in a terminal and in a notebook, plain lines now and then in a log file."""

import sys
import time
from collections.abc import Iterable, Iterator
from importlib.util import find_spec
from typing import TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from .duration import duration
from .interrupts import raise_lost

T = TypeVar("T")
_LINE_EVERY_S = 30.0
_LINES = 20
"""About as many lines as long work writes, so that a log stays short; none within `_LINE_EVERY_S` of the last."""


def track(items: Iterable[T], label: str, *, total: int, done: int = 0, show: bool = True) -> Iterator[T]:
    """Yield `items` while showing on standard error how far they are.

    Args:
        items: What remains to be done.
        label: What is being done.
        total: Number of items, those done before included.
        done: Items done before, in an earlier run.
        show: False for silence.

    Yields:
        The items, unchanged.

    Raises:
        KeyboardInterrupt: One fell before and was lost (`interrupts`).
    """
    items = _interruptible(items)
    if not show:
        yield from items
    elif _shows_bars():
        yield from _bar(items, label, total, done)
    else:
        yield from _lines(items, label, total, done)


def _interruptible(items: Iterable[T]) -> Iterator[T]:
    for item in items:
        yield item
        raise_lost()


def _shows_bars() -> bool:
    console = Console(stderr=True)
    if console.is_jupyter:
        # without these rich could only warn that they are missing
        return find_spec("ipywidgets") is not None
    return sys.stderr.isatty() and not console.is_dumb_terminal


def _bar(items: Iterable[T], label: str, total: int, done: int) -> Iterator[T]:
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task(label, total=total, completed=done)
        for item in items:
            yield item
            progress.advance(task)


def _lines(items: Iterable[T], label: str, total: int, done: int) -> Iterator[T]:
    start = last = time.monotonic()
    for count, item in enumerate(items, start=1):
        yield item
        now = time.monotonic()
        left_s = (now - start) / count * max(0, total - done - count)
        if now - last >= max(_LINE_EVERY_S, (now - start + left_s) / _LINES):
            last = now
            print(f"{label}: {done + count} of {total}, about {duration(left_s)} left", file=sys.stderr, flush=True)
