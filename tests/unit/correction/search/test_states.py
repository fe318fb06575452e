"""Ladders of counts, the cost of a state, and mutation at one cost."""

import random

import pytest
from tiny import tiny_sam

from medcore_prune._support.errors import BudgetError
from medcore_prune.correction.search.goal import Goal
from medcore_prune.correction.search.states import RUNGS, Ladders, ladder
from medcore_prune.models.groups import groups_of
from medcore_prune.models.segment_anything import build_sam
from medcore_prune.pruning.cost import count, unit_costs
from medcore_prune.pruning.planning import make_plan

MODEL = tiny_sam()


def ladders(goal: str = "h50_m70", cost: str = "params", protect: int | None = None) -> Ladders:
    return Goal.of(MODEL, goal, cost, protect).ladders()


def cheapest_step(of: Ladders, state: tuple[int, ...]) -> float:
    """Cost of the cheapest step that a group of a state could still take."""
    steps = [
        costs[place + 1] - costs[place] for costs, place in zip(of.costs, state, strict=True) if place + 1 < len(costs)
    ]
    return min(steps)


def test_a_ladder_reaches_from_what_always_stays_to_everything() -> None:
    heads, neurons = groups_of(build_sam("vit_b", device="meta"))[:2]
    assert ladder(heads) == tuple(range(1, 13))
    assert len(ladder(neurons)) == RUNGS["neurons"]
    assert (ladder(neurons)[0], ladder(neurons)[-1]) == (154, 3072)


@pytest.mark.parametrize("cost", ["params", "flops"])
@pytest.mark.parametrize("goal", ["h50_m70", "h84_m95", "params=30%", "flops=40%"])
def test_mutation_stays_at_the_target_within_a_step(goal: str, cost: str) -> None:
    of, rng = ladders(goal, cost), random.Random(0)
    state = of.start(Goal.of(MODEL, goal, cost, None).shares(), rng)
    seen = set()
    for _ in range(300):
        state = of.mutated(state, rng)
        seen.add(state)
        assert all(0 <= place < len(counts) for place, counts in zip(state, of.counts, strict=True))
        assert 0 <= of.target - of.cost(state) < cheapest_step(of, state)
    assert len(seen) > 100


def test_what_a_level_may_keep_is_what_the_papers_policy_keeps() -> None:
    plan = make_plan(MODEL, "h50_m70")
    for unit in ("params", "flops"):
        of = ladders(cost=unit)
        dense, left = (getattr(count(MODEL, each), unit) for each in (None, plan))
        assert of.cost(of.full) - of.target == dense - left


def test_a_target_is_a_share_of_the_encoder() -> None:
    of = ladders("params=30%")
    assert of.cost(of.full) - of.target == pytest.approx(0.3 * count(MODEL).params)


def test_a_search_starts_with_the_same_share_of_every_block_protected_ones_included() -> None:
    goal = Goal.of(MODEL, "h50_m70", "params", None)
    kept = ladders().kept(ladders().start(goal.shares(), random.Random(0)))
    neurons = [kept[block, "neurons"] for block in range(4)]
    assert max(neurons) - min(neurons) < 0.3 * groups_of(MODEL)[1].n_units
    # the policy itself keeps all of the deepest block
    assert make_plan(MODEL, "h50_m70").blocks[-1].untouched
    assert goal.protected == ()


def test_protection_that_was_asked_for_is_kept() -> None:
    of, rng = ladders(protect=2), random.Random(0)
    state = of.start(Goal.of(MODEL, "h50_m70", "params", 2).shares(), rng)
    for _ in range(50):
        state = of.mutated(state, rng)
        kept = of.kept(state)
        assert all(kept[g.block, g.family] == g.n_units for g in groups_of(MODEL) if g.block >= 2)
    assert Goal.of(MODEL, "h50_m70", "params", 2).protected == (2, 3)


def test_too_much_is_refused_with_the_most_that_can_go() -> None:
    with pytest.raises(BudgetError, match=r"params=99%: at most \d+\.\d+ % of the encoder's params can go"):
        ladders("params=99%")
    with pytest.raises(BudgetError, match="cost"):
        ladders(cost="joules")


def test_a_flip_moves_about_one_quantum_where_steps_differ() -> None:
    cheap, dear = tuple(range(0, 21)), tuple(range(0, 60, 10))
    of = Ladders(((0, "heads"), (1, "heads")), (cheap, dear), (cheap, dear), 30)
    assert of.quantum == 1
    assert (of._stride(0), of._stride(1)) == (1, 1)
    other = Ladders(((0, "heads"), (1, "heads")), (cheap[:4], dear), (cheap[:4], dear), 30)
    assert (other.quantum, other._stride(0), other._stride(1)) == (10, 10, 1)


def test_costs_are_those_of_the_units() -> None:
    of, costs = ladders(cost="flops"), unit_costs(MODEL, groups_of(MODEL), "flops")
    for key, counts, each in zip(of.keys, of.counts, of.costs, strict=True):
        assert each == tuple(n * costs[key] for n in counts)
