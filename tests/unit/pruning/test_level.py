"""Levels: text and value agree, and bad ones are refused."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medcore_prune._support.errors import BudgetError
from medcore_prune.pruning.level import COMPARISON_LEVELS, ONE_TIME_LEVELS, SEQUENTIAL_FIRST, SEQUENTIAL_LEVELS, Level


def test_parse_reads_percent_of_heads_and_of_neurons() -> None:
    assert Level.parse("h50_m70") == Level(0.5, 0.7)
    assert Level.parse(" H0_M12.5 ") == Level(0.0, 0.125)


def test_parse_hands_a_level_back() -> None:
    level = Level(0.3, 0.4)
    assert Level.parse(level) is level


@pytest.mark.parametrize("text", ["h50_m70", "h0_m0", "h37.5_m33.3333", "h29_m57", "h99.9999_m1"])
def test_text_survives_the_round_trip(text: str) -> None:
    assert str(Level.parse(text)) == text


@given(st.floats(0, 0.9999), st.floats(0, 0.9999))
def test_every_level_is_the_one_that_its_text_names(heads: float, neurons: float) -> None:
    level = Level(heads, neurons)
    assert Level.parse(str(level)) == level
    assert level.heads == pytest.approx(heads, abs=1e-6)


@pytest.mark.parametrize(
    "text", ["", "h50", "50_70", "h50-m70", "h-5_m70", "m70_h50", "hx_my", "h50_m70_x", "h٥٠_m70", "h1e1_m0"]
)
def test_unreadable_text_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(BudgetError, match="expected h<percent>_m<percent>, for example h50_m70"):
        Level.parse(text)


@pytest.mark.parametrize("value", [None, 5, 0.5, ("h50", "m70")])
def test_what_is_no_text_is_refused(value: object) -> None:
    with pytest.raises(BudgetError, match="cannot read level"):
        Level.parse(value)  # type: ignore[arg-type]


@pytest.mark.parametrize("text", ["h100_m50", "h50_m100", "h999_m0"])
def test_everything_is_too_much(text: str) -> None:
    with pytest.raises(BudgetError, match="must be below 100"):
        Level.parse(text)


@pytest.mark.parametrize("share", [-0.1, 1.0, 0.9999999, 1.5, math.nan, math.inf, -math.inf])
def test_shares_lie_in_zero_to_one(share: float) -> None:
    with pytest.raises(BudgetError, match=r"share of heads in \[0, 1\)"):
        Level(share, 0.5)
    with pytest.raises(BudgetError, match=r"share of neurons in \[0, 1\)"):
        Level(0.5, share)


def test_named_levels() -> None:
    assert list(map(str, ONE_TIME_LEVELS)) == ["h40_m30", "h50_m70", "h70_m70", "h70_m95", "h80_m95", "h84_m95"]
    assert set(COMPARISON_LEVELS) < set(ONE_TIME_LEVELS)
    assert SEQUENTIAL_FIRST in ONE_TIME_LEVELS
    assert list(map(str, SEQUENTIAL_LEVELS)) == ["h60_m70", "h72_m84", "h84_m95"]


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("h50m70", "h50_m70"),
        ("50_70", "h50_m70"),
        ("heads 12.5 %, mlp 30 %", "h12.5_m30"),
        ("50%", "h50_m50"),
        (0.5, "h50_m50"),
        ((0.5, 0.7), "h50_m70"),
    ],
)
def test_what_is_nearly_a_level_says_which(given: object, meant: str) -> None:
    with pytest.raises(BudgetError, match=f"; did you mean {meant}\\?$") as caught:
        Level.parse(given)  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)
    assert str(Level.parse(meant)) == meant


@pytest.mark.parametrize("given", ["magnitude", None, True, "h150m20", "1_2_3", "", float("nan"), (0.5, "x")])
def test_nothing_is_guessed_where_nothing_can_be_told(given: object) -> None:
    with pytest.raises(BudgetError) as caught:
        Level.parse(given)  # type: ignore[arg-type]
    assert "did you mean" not in str(caught.value)


def test_a_target_is_answered_by_what_makes_a_plan_of_it() -> None:
    with pytest.raises(BudgetError, match=r"is no level: mp\.automatic_plan\(model, 'params=60%'\) divides it"):
        Level.parse("params=60%")
