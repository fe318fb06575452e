"""States of a search: how many units each group keeps, on a ladder of counts, and moves that keep the cost."""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from statistics import median

from ...models.groups import Family, StructuredGroup
from ...pruning.budget import Key, min_keep

State = tuple[int, ...]
"""A place on its ladder for every group, in their order: 0 keeps the least."""

RUNGS: dict[Family, int] = {"heads": 12, "neurons": 20}
"""Counts that a group of a family may keep; fewer where it has fewer units."""

_MOST_FLIPS = 4


def ladder(group: StructuredGroup) -> tuple[int, ...]:
    """Counts that a group may keep, ascending and evenly spaced: from what always stays to all of its units."""
    least, most, rungs = min_keep(group), group.n_units, RUNGS[group.family]
    return tuple(sorted({least + round(step * (most - least) / (rungs - 1)) for step in range(rungs)}))


@dataclass(frozen=True)
class Ladders:
    """What a search may do: the counts of every group, what they cost, and what all of them together may cost.

    Attributes:
        keys: The groups.
        counts: Units that each may keep, ascending; a single one where nothing may go.
        costs: Cost of each of these counts, ascending.
        target: Cost that the state of a search stays at or below; at least that of the state of zeros.
    """

    keys: tuple[Key, ...]
    counts: tuple[tuple[int, ...], ...]
    costs: tuple[tuple[float, ...], ...]
    target: float

    @property
    def full(self) -> State:
        """The state that keeps everything."""
        return tuple(len(counts) - 1 for counts in self.counts)

    @cached_property
    def quantum(self) -> float:
        """What a flip moves, about: the median cost of a step of a ladder."""
        steps = [b - a for costs in self.costs for a, b in pairwise(costs)]
        return median(steps) if steps else 0.0

    def cost(self, state: Sequence[int]) -> float:
        """Cost of a state."""
        return sum(costs[place] for costs, place in zip(self.costs, state, strict=True))

    def kept(self, state: State) -> dict[Key, int]:
        """Units that each group keeps in a state."""
        return {key: counts[place] for key, counts, place in zip(self.keys, self.counts, state, strict=True)}

    def start(self, shares: Mapping[Family, float], rng: random.Random) -> State:
        """Return the state that keeps about the same share of every group of a family."""
        places = [
            min(range(len(counts)), key=lambda place: abs(counts[place] - shares[family] * counts[-1]))
            for (_, family), counts in zip(self.keys, self.counts, strict=True)
        ]
        return self.fitted(places, rng)

    def mutated(self, state: State, rng: random.Random) -> State:
        """Move a quantum from one group to another, as often as the smaller of two draws of 1 to 4 says."""
        places = list(state)
        for _ in range(min(rng.randint(1, _MOST_FLIPS), rng.randint(1, _MOST_FLIPS))):
            givers = [group for group, place in enumerate(places) if place]
            takers = [group for group, place in enumerate(places) if place < self._top(group)]
            pairs = [(giver, taker) for giver in givers for taker in takers if giver != taker]
            if not pairs:
                break
            giver, taker = rng.choice(pairs)
            places[giver] = max(0, places[giver] - self._stride(giver))
            places[taker] = min(self._top(taker), places[taker] + self._stride(taker))
        return self.fitted(places, rng)

    def fitted(self, places: Sequence[int], rng: random.Random) -> State:
        """Take steps off groups by lot until the cost is at most the target, then add those that still fit.

        What is left over is less than the cheapest step that any group could still take.
        """
        found = list(places)
        while self.cost(found) > self.target:
            found[rng.choice([group for group, place in enumerate(found) if place])] -= 1
        while fitting := self._fitting(found):
            found[rng.choice(fitting)] += 1
        return tuple(found)

    def _fitting(self, places: Sequence[int]) -> list[int]:
        left = self.target - self.cost(places)
        return [
            group
            for group, place in enumerate(places)
            if place < self._top(group) and self.costs[group][place + 1] - self.costs[group][place] <= left
        ]

    def _top(self, group: int) -> int:
        return len(self.counts[group]) - 1

    def _stride(self, group: int) -> int:
        """Steps of a group that cost about a quantum."""
        each = (self.costs[group][-1] - self.costs[group][0]) / max(1, self._top(group))
        return max(1, round(self.quantum / each)) if each else 1
