import pytest

from medcore_prune._support.errors import CriterionError
from medcore_prune.criteria.magnitude import Magnitude
from medcore_prune.defaults import DEFAULTS
from medcore_prune.scoring.recipes import get_baseline


@pytest.mark.parametrize("p", [0, -1, float("inf"), float("nan")])
def test_an_order_that_is_none(p: float) -> None:
    with pytest.raises(CriterionError, match=r"the order of the norm is .*: expected a finite number above 0"):
        Magnitude(p=p)


def test_a_torch_pruning_group_without_parameters_has_no_score() -> None:
    assert Magnitude().score_channels([]) is None


def test_what_is_listed_says_the_power_that_is_used() -> None:
    told = Magnitude.__doc__ or ""
    assert f"p is {DEFAULTS.magnitude_p} unless set" in told.splitlines()[0]
    assert f"with p {DEFAULTS.magnitude_p}, as tuned" in get_baseline("magnitude").description
