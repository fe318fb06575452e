"""Progress with time left: a bar in a terminal and in a notebook, plain lines now and then in a log file."""

import signal
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from types import FrameType
from typing import TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn


def duration(seconds: float) -> str:
    """Write a time as people say it: `40 s`, `3 min 20 s`, `2 h 5 min`."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


_fell = threading.Event()


def _remember(number: int, frame: FrameType | None) -> None:
    _fell.set()
    signal.default_int_handler(number, frame)


@contextmanager
def remembered() -> Iterator[None]:
    """Remember interrupts that fall in the block, in the main thread; in others nothing changes.

    What ends a job politely (SIGTERM: a scheduler, `kill`) is an interrupt too, so that no half-made file stays behind.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, _remember) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        _fell.clear()


def raise_lost() -> None:
    """Raise an interrupt that fell in `remembered` and did not get here."""
    if _fell.is_set():
        raise KeyboardInterrupt


T = TypeVar("T")
_LINE_EVERY_S = 30.0
_LINES = 20
"""About as many lines as long work writes, so that a log stays short; none within `_LINE_EVERY_S` of the last."""


def track(items: Iterable[T], label: str, *, total: int, done: int = 0, show: bool = True) -> Iterator[T]:
    """Yield `items` while showing on standard error how far they are: of `total`, `done` in an earlier run.

    An interrupt that fell before and was lost is raised.
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
