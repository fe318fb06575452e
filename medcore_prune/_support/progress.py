"""Progress with time left: a bar in a terminal and in a notebook, plain lines now and then in a log file."""

import html
import signal
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
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
_SHOWN_EVERY_S = 0.2
"""Seconds between two states of a notebook's bar, each of which is a message to the browser."""


def track(items: Iterable[T], label: str, *, total: int, done: int = 0, show: bool = True) -> Iterator[T]:
    """Yield `items` while showing how far they are: of `total`, `done` in an earlier run; an estimate may be exceeded.

    On standard error; in a notebook as one output of the cell, which is replaced in place and stays when it is saved.

    An interrupt that fell before and was lost is raised.
    """
    items = _interruptible(items)
    if not show:
        yield from items
    elif (console := Console(stderr=True)).is_jupyter:
        yield from _output(items, label, total, done)
    elif sys.stderr.isatty() and not console.is_dumb_terminal:
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
        for count, item in enumerate(items, start=done + 1):
            yield item
            progress.update(task, completed=count, total=max(total, count))


def _output(items: Iterable[T], label: str, total: int, done: int) -> Iterator[T]:
    # a display of the kernel's own: rich's and tqdm's bars are widgets, which not every notebook has and none can save
    from IPython.display import display

    start = last = time.monotonic()
    count, handle = 0, display(_shown(label, total, done, ""), raw=True, display_id=True)
    try:
        for item in items:
            yield item
            count, now = count + 1, time.monotonic()
            if now - last >= _SHOWN_EVERY_S:
                last, left_s = now, (now - start) / count * max(0, total - done - count)
                handle.update(_shown(label, total, done + count, f"about {duration(left_s)} left"), raw=True)
    finally:
        handle.update(_shown(label, total, done + count, f"took {duration(time.monotonic() - start)}"), raw=True)


def _shown(label: str, total: int, done: int, remark: str) -> dict[str, str]:
    """A bar with words for a browser, the words alone for what shows no HTML."""
    total = max(total, done)
    words = f"{label}: {done} of {total}" + f", {remark}" * bool(remark)
    bar = f'<progress max="{max(total, 1)}" value="{done}"></progress>'
    return {"text/plain": words, "text/html": f"{bar} {html.escape(words)}"}


def _lines(items: Iterable[T], label: str, total: int, done: int) -> Iterator[T]:
    start = last = time.monotonic()
    for count, item in enumerate(items, start=1):
        yield item
        now, total = time.monotonic(), max(total, done + count)
        left_s = (now - start) / count * (total - done - count)
        if now - last >= max(_LINE_EVERY_S, (now - start + left_s) / _LINES):
            last = now
            print(f"{label}: {done + count} of {total}, about {duration(left_s)} left", file=sys.stderr, flush=True)
