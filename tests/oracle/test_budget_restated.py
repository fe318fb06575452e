"""Budget and ranking against a plain restatement of METHOD section 7, and the laws that every quota keeps."""

import math
from fractions import Fraction

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from medcore_prune.pruning.quotas import Quotas, quotas
from medcore_prune.pruning.ranking import lowest, lowest_under_cost


def restated(units: list[int], percent: int, protected: set[int], keep: list[int], weights: list[int]) -> list[int]:
    """What each block gives, one step at a time."""
    asked = math.floor(Fraction(percent, 100) * sum(units) + Fraction(1, 2))
    caps = [0 if block in protected else max(0, units[block] - keep[block]) for block in range(len(units))]
    if asked >= sum(caps):
        return caps
    # blocks that are full first come first: the level at which a block is full is cap / weight
    shares, left, weight_left = [Fraction(0)] * len(units), Fraction(asked), sum(weights)
    for block in sorted(range(len(units)), key=lambda b: Fraction(caps[b], weights[b])):
        shares[block] = min(Fraction(caps[block]), left * weights[block] / weight_left)
        left -= shares[block]
        weight_left -= weights[block]
    counts = [math.floor(share + Fraction(1, 2)) for share in shares]
    while sum(counts) != asked:
        for block in range(len(units)):
            if sum(counts) > asked and counts[block] > 0:
                counts[block] -= 1
            elif sum(counts) < asked and counts[block] < caps[block]:
                counts[block] += 1
    return counts


@st.composite
def requests(draw: st.DrawFn) -> tuple[list[int], int, set[int], list[int], list[int]]:
    depth = draw(st.integers(1, 8))
    units = draw(st.lists(st.integers(1, 40), min_size=depth, max_size=depth))
    keep = [draw(st.integers(0, n)) for n in units]
    # one block can always give something, so that no request is refused
    keep[0] = 0
    protected = draw(st.sets(st.integers(1, depth - 1))) if depth > 1 else set()
    weights = draw(st.lists(st.integers(1, 9), min_size=depth, max_size=depth))
    return units, draw(st.integers(0, 99)), protected, keep, weights


def ours(request: tuple[list[int], int, set[int], list[int], list[int]], uniform: bool = False) -> Quotas:
    units, percent, protected, keep, weights = request
    chosen = None if uniform else [float(weight) for weight in weights]
    return quotas(units, percent / 100, protected=protected, weights=chosen, min_keep=keep)


@settings(max_examples=300, deadline=None)
@given(requests())
def test_weighted_quotas(request: tuple) -> None:
    assert list(ours(request).per_block) == restated(*request)


@settings(max_examples=200, deadline=None)
@given(requests())
def test_uniform_quotas_are_those_of_equal_weights(request: tuple) -> None:
    units, percent, protected, keep, _ = request
    expected = restated(units, percent, protected, keep, [1] * len(units))
    assert list(ours(request, uniform=True).per_block) == expected


@settings(max_examples=200, deadline=None)
@given(requests())
def test_quotas_meet_the_request_or_saturate(request: tuple) -> None:
    units, percent, protected, keep, _ = request
    got = ours(request)
    caps = [0 if block in protected else n - keep[block] for block, n in enumerate(units)]
    assert all(0 <= count <= cap for count, cap in zip(got.per_block, caps, strict=True))
    assert got.removed == min(got.requested, sum(caps))
    assert got.saturated == (got.requested > sum(caps))
    assert abs(got.requested - percent / 100 * sum(units)) <= 0.5 + 1e-9


@settings(max_examples=100, deadline=None)
@given(requests(), st.integers(0, 99))
def test_asking_for_more_never_gives_less(request: tuple, percent: int) -> None:
    units, first, protected, keep, weights = request
    less, more = sorted((first, percent))
    assert (
        ours((units, less, protected, keep, weights)).removed <= ours((units, more, protected, keep, weights)).removed
    )


@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(-3, 3), min_size=1, max_size=12), st.data())
def test_lowest_scores_with_ties(values: list[int], data: st.DataObject) -> None:
    count = data.draw(st.integers(0, len(values)))
    order = sorted(range(len(values)), key=lambda index: (values[index], index))
    assert lowest(torch.tensor(values, dtype=torch.float64), count) == sorted(order[:count])


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_global_ranking_takes_the_cheapest_loss_one_by_one(data: st.DataObject) -> None:
    keys = [(block, family) for block in range(2) for family in ("heads", "neurons")]
    scores = {key: data.draw(st.lists(st.integers(0, 5), min_size=1, max_size=5)) for key in keys}
    costs = {key: data.draw(st.integers(1, 9)) for key in keys}
    caps = {key: data.draw(st.integers(0, len(scores[key]))) for key in keys}
    gamma = data.draw(st.sampled_from([0.0, 0.5, 1.0]))
    budget = data.draw(st.integers(0, sum(caps[key] * costs[key] for key in keys)))

    gone: dict = {key: [] for key in keys}
    while sum(len(gone[key]) * costs[key] for key in keys) < budget:
        candidates = [
            (scores[key][index] / costs[key] ** gamma, key, index)
            for key in keys
            for index in range(len(scores[key]))
            if index not in gone[key] and len(gone[key]) < caps[key]
        ]
        _, key, index = min(candidates)
        gone[key].append(index)

    tensors = {key: torch.tensor(value, dtype=torch.float64) for key, value in scores.items()}
    got = lowest_under_cost(tensors, costs, caps, budget, gamma)
    assert got == {key: sorted(indices) for key, indices in gone.items()}
