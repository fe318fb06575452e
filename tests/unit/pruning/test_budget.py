"""Quotas: the worked examples of METHOD section 7, and every refusal."""

import math

import pytest

from medcore_prune._support.errors import BudgetError
from medcore_prune.pruning.budget import default_protect, min_neurons
from medcore_prune.pruning.quotas import quotas, sensitivity_weights

HEADS, NEURONS = [12] * 12, [3072] * 12
DEEPEST = (10, 11)


@pytest.mark.parametrize(
    ("fraction", "first", "rest", "removed"),
    [
        # 57.6 -> 58 heads over 10 blocks: 5.8 -> 6 each, two too many, taken from blocks 0 and 1
        (0.40, [5, 5], 6, 58),
        # 72 over 10: 7.2 -> 7 each, two too few, given to blocks 0 and 1
        (0.50, [8, 8], 7, 72),
        # 100.8 -> 101: one too few
        (0.70, [11, 10], 10, 101),
        # 115.2 -> 115, but 10 blocks can give only 11 each
        (0.80, [11, 11], 11, 110),
        (0.84, [11, 11], 11, 110),
    ],
)
def test_head_quotas_of_vit_b(fraction: float, first: list[int], rest: int, removed: int) -> None:
    got = quotas(HEADS, fraction, protected=DEEPEST, min_keep=[1] * 12)
    assert got.per_block == (*first, *[rest] * 8, 0, 0)
    assert got.removed == removed
    assert got.saturated == (fraction >= 0.8)


def test_neuron_quotas_of_vit_b_saturate_where_the_method_says() -> None:
    keep = [min_neurons(n) for n in NEURONS]
    assert keep == [154] * 12  # ceil(153.6)
    got = quotas(NEURONS, 0.95, protected=DEEPEST, min_keep=keep)
    assert (got.removed, got.requested, got.saturated) == (29_180, 35_021, True)
    # 25804.8 -> 25805 over 10 blocks: 2580.5 rounds up to 2581 each, five too many
    mild = quotas(NEURONS, 0.70, protected=DEEPEST, min_keep=keep)
    assert mild.per_block == (*[2580] * 5, *[2581] * 5, 0, 0)


def test_what_a_full_block_cannot_give_goes_to_the_others() -> None:
    # 10 of 20 asked, 10/3 each; the block of 2 gives 1, the other two share 9: 4.5 -> 5 each, one too many
    got = quotas([2, 9, 9], 0.5, min_keep=[1, 1, 1])
    assert got.requested == 10
    assert got.per_block == (0, 5, 5)


def test_the_count_is_rounded_half_up_as_it_is_written() -> None:
    # 0.29 * 50 is 14.499999999999998 in binary floating point, and 14.5 on paper
    assert quotas([50], 0.29, min_keep=[1]).removed == 15


def test_weights_share_the_count_in_proportion() -> None:
    got = quotas([100, 100, 100], 0.2, min_keep=[1] * 3, weights=[3, 2, 1])
    assert got.per_block == (30, 20, 10)


def test_weighted_quotas_overflow_into_other_blocks() -> None:
    # shares 45, 3.75, 11.25: block 0 is full at 9, the other 51 go 1 : 3
    got = quotas([10, 100, 90], 0.3, min_keep=[1, 1, 1], weights=[12, 1, 3])
    assert got.per_block == (9, 13, 38)


def test_weights_of_protected_blocks_are_not_read() -> None:
    got = quotas([10, 10], 0.3, min_keep=[1, 1], protected=[1], weights=[1.0, math.nan])
    assert got.per_block == (6, 0)


def test_nothing_asked_takes_nothing_even_with_all_protected() -> None:
    assert quotas([4, 4], 0.0, min_keep=[1, 1], protected=[0, 1]).per_block == (0, 0)


def test_the_message_of_an_infeasible_request_names_what_is_feasible() -> None:
    with pytest.raises(BudgetError, match=r"asks for 115, but only 110 can go .* at most 0\.7638"):
        quotas(HEADS, 0.8, protected=DEEPEST, min_keep=[1] * 12, strict=True)
    assert not quotas(HEADS, 0.7638, protected=DEEPEST, min_keep=[1] * 12, strict=True).saturated


def test_a_request_of_which_nothing_can_go_is_refused() -> None:
    with pytest.raises(BudgetError, match="only 0 can go"):
        quotas([1, 1, 1, 1], 0.5, min_keep=[1] * 4)


@pytest.mark.parametrize("fraction", [-0.01, 1.0, 2.0, math.nan, math.inf])
def test_fractions_lie_in_zero_to_one(fraction: float) -> None:
    with pytest.raises(BudgetError, match=r"expected a number in \[0, 1\)"):
        quotas([4], fraction, min_keep=[1])


def test_arguments_must_fit_the_blocks() -> None:
    with pytest.raises(BudgetError, match="expected 2 counts of at least 0, one a block"):
        quotas([4, 4], 0.5, min_keep=[1])
    with pytest.raises(BudgetError, match="expected counts of at least 0"):
        quotas([4, -4], 0.5, min_keep=[1, 1])
    with pytest.raises(BudgetError, match=r"protected blocks \[-1, 2\] do not exist"):
        quotas([4, 4], 0.5, min_keep=[1, 1], protected=[2, -1])
    with pytest.raises(BudgetError, match="got 1 quota weights for 2 blocks"):
        quotas([4, 4], 0.5, min_keep=[1, 1], weights=[1.0])


@pytest.mark.parametrize("weight", [0.0, -1.0, math.nan, math.inf])
def test_weights_are_positive(weight: float) -> None:
    with pytest.raises(BudgetError, match="quota weight of block 1"):
        quotas([4, 4], 0.5, min_keep=[1, 1], weights=[1.0, weight])


def test_sensitive_blocks_weigh_less() -> None:
    weights = sensitivity_weights([1.0, 4.0, 16.0], tau=0.5)
    assert weights[0] / weights[1] == pytest.approx(2)
    assert weights[0] / weights[2] == pytest.approx(4)


def test_tau_of_zero_gives_uniform_weights() -> None:
    assert sensitivity_weights([1e-30, 1.0, 1e30], tau=0.0) == [1.0, 1.0, 1.0]


@pytest.mark.parametrize("value", [-1.0, math.nan, math.inf])
def test_sensitivities_are_not_negative(value: float) -> None:
    with pytest.raises(BudgetError, match="sensitivity of block 1"):
        sensitivity_weights([1.0, value], tau=0.5)


@pytest.mark.parametrize("tau", [0.0, 0.25])
def test_sensitivities_that_say_nothing_are_refused(tau: float) -> None:
    with pytest.raises(BudgetError, match=r"sensitivity of block 0 is 0: .*not all of them 0.*use uniform quotas"):
        sensitivity_weights([0.0, 0.0], tau=tau)


@pytest.mark.parametrize("tau", [1e-3, 0.25, 2.0])
def test_a_block_of_no_sensitivity_gives_all_it_can_before_the_others(tau: float) -> None:
    weights = sensitivity_weights([1.0, 0.0, 1e-9, 0.0], tau)
    # 8 of 40 asked: 4 of each of the two
    assert quotas([10] * 4, 0.2, min_keep=[1] * 4, weights=weights).per_block == (0, 4, 0, 4)
    # 28 asked: 9 each, and the other 10 as if the two were not there
    got = quotas([10] * 4, 0.7, min_keep=[1] * 4, weights=weights).per_block
    alone = quotas([10] * 2, 0.5, min_keep=[1] * 2, weights=sensitivity_weights([1.0, 1e-9], tau)).per_block
    assert got == (alone[0], 9, alone[1], 9)


def test_a_block_of_no_sensitivity_is_like_the_others_at_tau_zero() -> None:
    assert sensitivity_weights([1.0, 0.0], tau=0.0) == [1.0, 1.0]


@pytest.mark.parametrize("tau", [-0.5, math.nan, math.inf])
def test_tau_is_at_least_zero(tau: float) -> None:
    with pytest.raises(BudgetError, match="tau is"):
        sensitivity_weights([1.0], tau=tau)


def test_default_protection_of_sams_encoders() -> None:
    assert [default_protect(depth) for depth in (12, 24, 32, 4, 1)] == [2, 4, 5, 1, 0]


def test_one_neuron_in_twenty_stays() -> None:
    assert [min_neurons(n) for n in (1, 20, 21, 480, 3072)] == [1, 1, 2, 24, 154]
