"""What is made ahead comes in order, with its errors in their place, and no more of it than was said."""

import threading
import time
from collections.abc import Iterator

import pytest

from medcore_prune._support import ahead as module
from medcore_prune._support.ahead import StepsAhead, ahead


def counted(upto: int, made: list[int]) -> Iterator[int]:
    for number in range(upto):
        made.append(number)
        yield number


def test_items_come_in_order_from_one_other_thread() -> None:
    threads = set()

    def items() -> Iterator[int]:
        for number in range(20):
            threads.add(threading.get_ident())
            yield number

    assert list(ahead(items(), most=3)) == list(range(20))
    assert len(threads) == 1
    assert threads != {threading.get_ident()}
    assert list(ahead([])) == []


def test_freed_memory_is_given_back_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    given = list[int]()
    monkeypatch.setattr(module, "give_back_freed", lambda: given.append(1))
    assert list(ahead(range(40))) == list(range(40))
    assert len(given) == 2
    steps = StepsAhead(lambda step: step, 40)
    assert [steps(step) for step in range(40)] == list(range(40))
    assert len(given) == 4


def test_no_more_is_made_than_was_said() -> None:
    made: list[int] = []
    coming = ahead(counted(100, made), most=2)
    assert next(coming) == 0
    time.sleep(0.05)
    assert len(made) <= 3
    coming.close()
    time.sleep(0.05)
    assert len(made) <= 4


def test_an_error_comes_in_its_place() -> None:
    def items() -> Iterator[int]:
        yield 1
        raise KeyboardInterrupt("here")

    coming = ahead(items())
    assert next(coming) == 1
    with pytest.raises(KeyboardInterrupt, match="here"):
        next(coming)


def test_steps_are_made_ahead_up_to_the_last() -> None:
    made: list[int] = []

    def make(step: int) -> int:
        made.append(step)
        if step == 3:
            raise ValueError("three")
        return step * step

    steps = StepsAhead(make, stop=3)
    assert [steps(step) for step in range(3)] == [0, 1, 4]
    assert made == [0, 1, 2]
    assert [StepsAhead(int, stop=9, by=4)(step) for step in (1, 5)] == [1, 5]
    # gone on with elsewhere
    assert StepsAhead(make, stop=10)(2) == 4
    with pytest.raises(ValueError, match="three"):
        steps(3)
