"""The search itself, on a landscape that is known."""

import random
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise

from medcore_prune.correction.search.evolve import Found, evolve
from medcore_prune.correction.search.states import Ladders, State

COUNTS = tuple(range(1, 11))
WANTED = (9, 0, 6, 3, 0, 2)
LADDERS = Ladders(tuple((block, "heads") for block in range(6)), (COUNTS,) * 6, (COUNTS,) * 6, sum(WANTED) + 6)
START = LADDERS.start({"heads": 0.43, "neurons": 1.0}, random.Random(0))


def distance(state: State) -> float:
    return float(sum((a - b) ** 2 for a, b in zip(state, WANTED, strict=True)))


def first_places(states: Sequence[State]) -> list[float]:
    return [float(state[0]) for state in states]


def search(seed: int = 0, asked: list[State] | None = None, generations: int = 20) -> Found:
    def fitness(states: Sequence[State]) -> list[float]:
        if asked is not None:
            asked.extend(states)
        return [distance(state) for state in states]

    return evolve(LADDERS, [START], fitness, generations=generations, candidates=16, seed=seed, progress=False)


def test_fitness_never_rises_and_comes_down() -> None:
    found = search()
    assert len(found.history) == 21
    assert all(later <= earlier for earlier, later in pairwise(found.history))
    assert found.history[-1] == distance(found.state) < 0.2 * found.history[0]


def test_a_generation_is_asked_for_at_once() -> None:
    asked: list[int] = []

    def fitness(states: Sequence[State]) -> list[float]:
        asked.append(len(states))
        return [distance(state) for state in states]

    evolve(LADDERS, [START], fitness, generations=3, candidates=16, seed=0, progress=False)
    assert asked == [1, 16, 16, 16]


def test_it_goes_on_from_the_best_of_its_starts() -> None:
    close = (8, 0, 6, 3, 0, 2)
    found = evolve(
        LADDERS,
        [START, close, START],
        lambda states: [distance(state) for state in states],
        generations=1,
        candidates=1,
        seed=0,
        progress=False,
    )
    assert found.history[0] == distance(close) < distance(START)
    assert found.seen == 3


def test_each_distinct_state_is_asked_for_once() -> None:
    asked: list[State] = []
    found = search(asked=asked)
    assert max(Counter(asked).values()) == 1
    assert 300 < found.seen == len(asked) <= 1 + 20 * 16


def test_the_same_seed_goes_the_same_way_and_another_one_another() -> None:
    first, again, other = list[State](), list[State](), list[State]()
    assert search(3, first) == search(3, again)
    search(4, other)
    assert first == again != other


def test_where_hardly_anything_is_left_to_try_it_ends() -> None:
    two = Ladders(((0, "heads"), (1, "heads")), ((1, 2), (1, 2)), ((1, 2), (1, 2)), 3)
    found = evolve(two, [(1, 0)], first_places, generations=5, candidates=4, seed=0, progress=False)
    assert (found.state, found.seen) == ((0, 1), 2)


def test_where_nothing_may_move_the_start_stays() -> None:
    one = Ladders(((0, "heads"),), ((4,),), ((4,),), 4)
    found = evolve(one, [(0,)], lambda states: [1.0] * len(states), generations=2, candidates=3, seed=0, progress=False)
    assert found == Found((0,), (1.0, 1.0, 1.0), 1)
