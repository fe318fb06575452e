"""An elitist search over states of one cost: mutate the best one, look at the children, keep the best of all."""

import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from ..._support.progress import track
from .states import Ladders, State

_TRIES = 50
"""Mutations that are tried for a child that has not been seen in this search."""


@dataclass(frozen=True)
class Found:
    """What a search came to.

    Attributes:
        state: The best one.
        history: Fitness of the best start and of the best one behind each generation; it never rises.
        seen: Distinct states that were looked at.
    """

    state: State
    history: tuple[float, ...]
    seen: int


def evolve(
    ladders: Ladders,
    starts: Sequence[State],
    fitness: Callable[[Sequence[State]], Iterable[float]],
    *,
    generations: int,
    candidates: int,
    seed: int,
    progress: bool = True,
) -> Found:
    """Minimise a fitness from the best of `starts`; it is asked for all states of a generation at once, each one once.

    What is drawn depends on the seed, the generation and the fitness of states alone, so that a search that finds its
    earlier answers stored goes the same way.
    """
    distinct = list(dict.fromkeys(starts))
    known = dict(zip(distinct, fitness(distinct), strict=True))
    best = min(distinct, key=known.__getitem__)
    history = [known[best]]

    def looks() -> Iterator[None]:
        nonlocal best
        for generation in range(generations):
            children = _children(ladders, best, set(known), candidates, random.Random(f"{seed}/{generation}"))
            for child, worth in zip(children, fitness(children), strict=True):
                known[child] = worth
                yield
            # of equal ones the parent stays, then the first
            best = min((best, *children), key=known.__getitem__)
            history.append(known[best])

    for _ in track(looks(), "searching the budget", total=generations * candidates, show=progress):
        pass
    return Found(best, tuple(history), len(known))


def _children(ladders: Ladders, parent: State, seen: set[State], candidates: int, rng: random.Random) -> list[State]:
    """New states by mutation; fewer than asked for where hardly any are left."""
    found: dict[State, None] = {}
    for _ in range(candidates):
        for _ in range(_TRIES):
            child = ladders.mutated(parent, rng)
            if child not in seen and child not in found:
                found[child] = None
                break
    return list(found)
