"""Reading ahead: what comes next is made in one thread while what is there is worked on."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Generic, TypeVar

from .devices import give_back_freed

T = TypeVar("T")
_END = object()
_BETWEEN = 16
"""Items from one giving back of freed memory to the next; it takes milliseconds."""


def ahead(items: Iterable[T], most: int = 1) -> Iterator[T]:
    """Yield items in order, `most` of them made ahead in a thread; an error comes in the place of its item.

    One thread alone makes them, so that data sets need not be made for several; no process is started, so that nothing
    is pickled. When the loop ends early, at most the item in the making is waited for.
    """
    made = _given_back(items)
    with ThreadPoolExecutor(1, "ahead") as thread:
        coming: deque[Future[T | object]] = deque()
        try:
            coming.extend(thread.submit(next, made, _END) for _ in range(most))
            while (item := coming.popleft().result()) is not _END:
                coming.append(thread.submit(next, made, _END))
                yield item  # type: ignore[misc]
        finally:
            for each in coming:
                each.cancel()


def _given_back(items: Iterable[T]) -> Iterator[T]:
    for number, item in enumerate(items):
        if number % _BETWEEN == _BETWEEN - 1:
            give_back_freed()
        yield item


class StepsAhead(Generic[T]):
    """A function of a step's number, called for one step after the other, that makes the next one meanwhile.

    `stop` is the first step that nobody asks for, and `by` how far the next one is. Steps may be asked for in any
    order; what was made for another one is given up.
    """

    def __init__(self, make: Callable[[int], T], stop: int, by: int = 1) -> None:
        self._make, self._stop, self._by, self._made = make, stop, by, 0
        self._thread = ThreadPoolExecutor(1, "steps-ahead")
        self._next: tuple[int, Future[T]] | None = None

    def __call__(self, step: int) -> T:
        known, self._next = self._next, None
        made = known[1] if known is not None and known[0] == step else self._thread.submit(self._make, step)
        found = made.result()
        self._made += 1
        if self._made % _BETWEEN == 0:
            give_back_freed()
        following = step + self._by
        if following < self._stop:
            self._next = following, self._thread.submit(self._make, following)
        return found
