"""Objects that one thread works on at a time: what a call puts on a model for a while is no other call's business."""

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from .errors import MedcorePruneError


@dataclass
class _Hold:
    """Who is at an object, how often over, and under which block of the user's, empty for calls that end."""

    thread: int
    depth: int = 0
    block: str = ""


_CHANGED = threading.Condition()
_HELD: dict[int, _Hold] = {}
"""By `id` of what is held, which lives as long as it is held."""


@contextmanager
def alone(*objects: object, block: str = "") -> Iterator[None]:
    """Hold objects for this thread while the block lasts; another thread waits until all that it wants are free.

    A thread may hold an object several times over. `block` names a `with` block of the user's, which may last for any
    time and wait for other threads itself: a thread that wants what is held so is refused instead of waiting.
    """
    keys, me = list({id(each): None for each in objects}), threading.get_ident()
    with _CHANGED:
        while others := [held for key in keys if (held := _HELD.get(key)) and held.thread != me]:
            if blocks := [held.block for held in others if held.block]:
                raise MedcorePruneError(
                    f"another thread has this model within a `{blocks[0]}` block, which changes what it computes: wait "
                    "for the block's end, or give each thread a copy.deepcopy of its own"
                )
            _CHANGED.wait()
        holds = [(key, _HELD.setdefault(key, _Hold(me))) for key in keys]
        before = [held.block for _, held in holds]
        for _, held in holds:
            # a block within a call ends with it
            held.block = held.block or ("" if held.depth else block)
            held.depth += 1
    try:
        yield
    finally:
        with _CHANGED:
            for (key, held), was in zip(holds, before, strict=True):
                held.depth, held.block = held.depth - 1, was
                if not held.depth and _HELD.get(key) is held:
                    del _HELD[key]
            _CHANGED.notify_all()


def _forget() -> None:
    """In a forked process no other thread goes on, so that nobody would ever let go."""
    global _CHANGED
    _CHANGED = threading.Condition()
    _HELD.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
