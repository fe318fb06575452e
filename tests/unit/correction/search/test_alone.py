"""What each group costs alone, and the best state where that adds up, against a search through all states."""

import random
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise, product

import pytest

from medcore_prune.correction.search.alone import PROBES, cheapest, curves, probes
from medcore_prune.correction.search.states import Ladders, State


def ladders(target: float, seed: int = 0, groups: int = 4, tops: tuple[int, ...] = (4, 3, 5, 1)) -> Ladders:
    """Groups of other sizes and costs; few enough counts that each is a probe."""
    rng = random.Random(seed)
    counts = tuple(tuple(range(1, top + 2)) for top in tops[:groups])
    costs = tuple(tuple(float(n * unit) for n in kept) for kept in counts for unit in [rng.randint(1, 9)])
    return Ladders(tuple((block, "heads") for block in range(groups)), counts, costs, target)


def additive(lads: Ladders, seed: int = 0) -> Callable[[State], float]:
    """A fitness that adds up: of each group a curve that falls to 0."""
    rng = random.Random(seed)
    falling = [[*sorted((10 ** rng.uniform(-5, 0) for _ in range(top)), reverse=True), 0.0] for top in lads.full]
    return lambda state: sum(curve[place] for curve, place in zip(falling, state, strict=True))


def best_of_all(lads: Ladders, fitness: Callable[[State], float]) -> float:
    every = product(*(range(top + 1) for top in lads.full))
    return min(fitness(state) for state in every if lads.cost(state) <= lads.target)


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("share", [0.4, 0.6, 0.9])
def test_where_it_adds_up_the_state_is_the_best_of_all(seed: int, share: float) -> None:
    lads = ladders(0.0, seed)
    # half a unit more than a sum of whole costs, so that no state is lost by rounding up
    lads = ladders(int(share * lads.cost(lads.full)) + 0.5, seed)
    fitness = additive(lads, seed)
    found = cheapest(lads, {state: fitness(state) for state in probes(lads)})
    assert lads.cost(found) <= lads.target
    assert fitness(found) == pytest.approx(best_of_all(lads, fitness), rel=1e-9)


def test_a_probe_takes_from_one_group_alone_and_none_is_asked_twice() -> None:
    counts = ((1, 2, 3), tuple(range(20)), (7,))
    costs = tuple(tuple(map(float, each)) for each in counts)
    lads = Ladders(((0, "heads"), (0, "neurons"), (1, "heads")), counts, costs, 10.0)
    asked = probes(lads)
    assert all(sum(place != top for place, top in zip(state, lads.full, strict=True)) == 1 for state in asked)
    assert len(asked) == len(set(asked)) == 2 + PROBES
    # the least of each is among them; a group that may not give is not
    assert {(0, 19, 0), (2, 0, 0)} <= set(asked)
    assert all(state[2] == 0 for state in asked)
    # where all may stay nothing is to be found out
    assert not probes(replace(lads, target=lads.cost(lads.full)))


def test_a_curve_goes_through_its_probes_falls_and_ends_at_zero() -> None:
    lads = Ladders(((0, "neurons"),), (tuple(range(21)),), (tuple(map(float, range(21))),), 10.0)
    worth = dict(zip(probes(lads), [1e-1, 1e-2, 2e-2, 1e-4, 1e-5], strict=True))
    (curve,) = curves(lads, worth)
    # the third is above the second by chance
    assert [curve[n] for n in (0, 4, 8, 12, 16)] == pytest.approx([1e-1, 1e-2, 1e-2, 1e-4, 1e-5])
    assert curve[2] == pytest.approx((1e-1 * 1e-2) ** 0.5)
    assert curve[18] == pytest.approx(0.5e-5)
    assert curve[20] == 0
    assert all(after <= before * (1 + 1e-12) for before, after in pairwise(curve))


def test_a_group_that_costs_nothing_to_lose_goes_first() -> None:
    lads = Ladders(((0, "heads"), (1, "heads")), ((1, 2, 3),) * 2, ((1.0, 2.0, 3.0),) * 2, 4.0)
    worth = {state: 0.0 if state[0] < 2 else 1.0 - 0.1 * state[1] for state in probes(lads)}
    assert cheapest(lads, worth) == (0, 2)


def test_where_only_the_least_of_everything_fits_it_is_found() -> None:
    lads = Ladders(((0, "heads"), (1, "heads")), ((1, 2),) * 2, ((1.0, 3.0), (1.00003, 2.0)), 2.00003)
    assert cheapest(lads, dict.fromkeys(probes(lads), 0.1)) == (0, 0)
