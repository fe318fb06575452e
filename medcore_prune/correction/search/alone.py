"""What each group costs alone, and the state that would be best if that added up: where a search starts.

    min_k  sum_g f_g(k_g)   with   sum_g c_g(k_g) <= C

f_g(k) is the fitness of the network of which group g alone keeps k units, c_g(k) what they cost. Divergences of small,
independent changes add up, and the sum is least at a multiple-choice knapsack's solution, found by dynamic programming
over the cost: as SPDY (arXiv 2201.13096) and ZipLM (arXiv 2302.04089) share a budget out over layers.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from .states import Ladders, State

PROBES = 5
"""Counts that a group is looked at with, evenly spaced on its ladder; between them curves are interpolated."""

_BINS = 20_000
"""Steps that costs are counted in, up to the target: rounded up, all groups together lose a thousandth of it."""

_SMALLEST = 1e-12


def probes(ladders: Ladders) -> list[State]:
    """States in which one group keeps less and the others everything, group by group, the smallest counts first.

    None where everything may stay.
    """
    if ladders.cost(ladders.full) <= ladders.target:
        return []
    return [
        (*ladders.full[:group], place, *ladders.full[group + 1 :])
        for group, top in enumerate(ladders.full)
        for place in _places(top)
    ]


def cheapest(ladders: Ladders, worth: Mapping[State, float]) -> State:
    """Return the state with the least sum of `curves` of those that cost at most the target.

    `worth` are the fitness of the probes, at least 0, and the whole network's is 0.
    """
    step = ladders.target / _BINS
    costs = [np.ceil(np.asarray(each) / step).astype(int) for each in ladders.costs]
    # least sum of the groups so far by what they may cost together, and the place that the last one has in it
    least, taken = np.zeros(_BINS + 1), list[np.ndarray]()
    for cost, curve in zip(costs, curves(ladders, worth), strict=True):
        sums = np.full((len(curve), _BINS + 1), np.inf)
        for place, (needed, value) in enumerate(zip(cost, curve, strict=True)):
            if needed <= _BINS:
                sums[place, needed:] = least[: _BINS + 1 - needed] + value
        taken.append(sums.argmin(axis=0))
        least = sums.min(axis=0)
    places, left = list[int](), _BINS
    for cost, chosen in zip(reversed(costs), reversed(taken), strict=True):
        places.append(int(chosen[left]))
        # below 0 where rounding up leaves no room even for the least of everything, which is what is then taken
        left = max(0, left - int(cost[places[-1]]))
    return tuple(reversed(places))


def curves(ladders: Ladders, worth: Mapping[State, float]) -> list[np.ndarray]:
    """Fitness by place of each group, the others whole: never rising, 0 at the top.

    Between two probes it is interpolated in its logarithm, for it falls by powers of ten; from the last one to the top,
    where it is 0, in itself. What a probe has above one of fewer units is taken for chance, and counts as much as
    that.
    """
    found = []
    for group, top in enumerate(ladders.full):
        places = _places(top)
        known = [worth[(*ladders.full[:group], place, *ladders.full[group + 1 :])] for place in places]
        falling = np.minimum.accumulate([max(each, _SMALLEST) for each in known]) if known else np.zeros(0)
        at = np.arange(top + 1)
        curve = np.zeros(top + 1)
        if places:
            curve = np.exp(np.interp(at, places, np.log(falling)))
            last = places[-1]
            curve[last:] = falling[-1] * (top - at[last:]) / (top - last)
        found.append(curve)
    return found


def _places(top: int) -> Sequence[int]:
    """Where a group is looked at on a ladder with this last place, the whole group apart."""
    return sorted({round(top * part / PROBES) for part in range(PROBES)} - {top})
