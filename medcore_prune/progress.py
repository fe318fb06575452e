"""Progress with time left, in a terminal as a bar, elsewhere as a line now and then."""

import sys
import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from .interrupts import raise_lost

T = TypeVar("T")
_LINE_EVERY_S = 30.0


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
    elif sys.stderr.isatty():
        yield from _bar(items, label, total, done)
    else:
        yield from _lines(items, label, total, done)


def _interruptible(items: Iterable[T]) -> Iterator[T]:
    for item in items:
        yield item
        raise_lost()


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
        if now - last >= _LINE_EVERY_S:
            last = now
            left_s = (now - start) / count * max(0, total - done - count)
            print(f"{label}: {done + count} of {total}, about {left_s:.0f} s left", file=sys.stderr, flush=True)
