import pytest

from medcore_prune.criteria.magnitude import Magnitude
from medcore_prune.errors import CriterionError


@pytest.mark.parametrize("p", [0, -1, float("inf"), float("nan")])
def test_an_order_that_is_none(p: float) -> None:
    with pytest.raises(CriterionError, match=r"the order of the norm is .*: expected a finite number above 0"):
        Magnitude(p=p)


def test_a_torch_pruning_group_without_parameters_has_no_score() -> None:
    assert Magnitude().score_channels([]) is None
