"""Index sets as text."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medcore_prune._support.errors import BudgetError
from medcore_prune.pruning import plan


@pytest.mark.parametrize(
    ("indices", "text"), [((), ""), ((4,), "4"), ((0, 1, 2, 3, 7), "0-3, 7"), ((1, 3, 4, 9), "1, 3-4, 9")]
)
def test_runs_become_ranges(indices: tuple[int, ...], text: str) -> None:
    assert plan.to_text(indices) == text
    assert plan.from_text(text, 10, "it") == indices


@given(st.sets(st.integers(0, 200)))
def test_round_trip(indices: set[int]) -> None:
    ordered = tuple(sorted(indices))
    assert plan.from_text(plan.to_text(ordered), 201, "it") == ordered


@pytest.mark.parametrize("text", ["a", "1;2", "-1", "1-", "1--2", "1.5", "0x3", "1,,2", "1234567890", "٣"])
def test_other_text_is_refused(text: str) -> None:
    with pytest.raises(BudgetError, match="it: cannot read"):
        plan.from_text(text, 1 << 20, "it")


@pytest.mark.parametrize("text", ["3, 2", "2, 2", "0-4, 4", "5-3"])
def test_disorder_is_refused(text: str) -> None:
    with pytest.raises(BudgetError, match="ascending indices without repeats"):
        plan.from_text(text, 10, "it")


def test_a_huge_range_is_refused_before_it_takes_memory() -> None:
    with pytest.raises(BudgetError, match="index 999999999 does not exist, expected 0 to 9"):
        plan.from_text("0-999999999", 10, "it")


@pytest.mark.parametrize("size", [0, -1, (1 << 20) + 1, True, 3.0, "3"])
def test_absurd_sizes_are_refused(size: object) -> None:
    with pytest.raises(BudgetError, match="expected 1 to 1048576"):
        plan.check_size(size, "it")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("indices", "message"),
    [((1, 1), "ascending"), ((2, 1), "ascending"), ((-1, 0), "do not exist"), ((0, 5), "do not exist")],
)
def test_bad_indices_are_refused(indices: tuple[int, ...], message: str) -> None:
    with pytest.raises(BudgetError, match=message):
        plan.check_indices(indices, 5, "it")


@pytest.mark.parametrize("index", [True, 1.0, "1", None])
def test_indices_are_integers(index: object) -> None:
    with pytest.raises(BudgetError, match="expected an int"):
        plan.check_indices((index,), 5, "it")  # type: ignore[arg-type]
