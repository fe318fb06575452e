"""An interrupt that is never lost.

Python drops exceptions that are raised while it cannot pass them on: in a callback, as an object dies, and where C code
asks for an attribute and takes any failure for "there is none". An interrupt that falls there would be gone, and the
run go on to its end. So it is remembered, and raised again at the next step of whatever shows progress.
"""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

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
    """Raise an interrupt that fell and did not get here.

    Raises:
        KeyboardInterrupt: One fell in `remembered`.
    """
    if _fell.is_set():
        raise KeyboardInterrupt
