import numpy as np
import pandas as pd
import pytest

from medcore_prune._support.errors import MetricError
from medcore_prune.evaluation.intervals import paired_difference, verdict


def table(values: dict[str, list[float]], groups: dict[str, list[str]] | None = None) -> pd.DataFrame:
    rows = [
        (dataset, str(place), (groups or {}).get(dataset, [str(i) for i in range(len(of))])[place], value)
        for dataset, of in values.items()
        for place, value in enumerate(of)
    ]
    return pd.DataFrame(rows, columns=["dataset", "name", "group", "bf1"])


def test_the_difference_is_of_macro_averages_and_pairs_by_name_not_by_order() -> None:
    first, second = table({"a": [0.9, 0.5], "b": [0.2]}), table({"a": [0.5, 0.3], "b": [0.4]})
    found = paired_difference(first, second.sample(frac=1, random_state=3), "bf1")
    # a: (0.4 + 0.2) / 2 = 0.3; b: -0.2; mean 0.05
    assert found.value == pytest.approx(0.05)
    assert found.groups == 1


def test_one_constant_difference_is_certain_and_none_is_not_significant() -> None:
    rng = np.random.default_rng(0)
    values = rng.uniform(size=12).tolist()
    first = table({"a": values})
    shifted = table({"a": [value - 0.1 for value in values]})
    certain = paired_difference(first, shifted, "bf1")
    assert (certain.low, certain.high) == (pytest.approx(0.1), pytest.approx(0.1))
    assert not certain.holds_zero
    assert paired_difference(first, first, "bf1").holds_zero
    unknown = table({"a": [float("nan"), *values[1:]]})
    assert paired_difference(first, unknown, "bf1").holds_zero


def test_the_interval_is_that_of_a_plain_loop_over_draws() -> None:
    rng = np.random.default_rng(1)
    differences = rng.normal(0.02, 0.1, 30)
    groups = [str(place // 2) for place in range(30)]
    first, second = table({"a": differences.tolist()}, {"a": groups}), table({"a": [0.0] * 30}, {"a": groups})
    found = paired_difference(first, second, "bf1", draws=4000)
    drawn = []
    for _ in range(4000):
        chosen = rng.integers(0, 15, 15)
        drawn.append(np.mean([differences[2 * group + half] for group in chosen for half in (0, 1)]))
    low, high = np.quantile(drawn, [0.025, 0.975])
    # both are estimates from 4000 draws: their own spread is about 0.001
    assert found.low == pytest.approx(low, abs=0.005)
    assert found.high == pytest.approx(high, abs=0.005)
    assert found.groups == 15


def test_groups_that_belong_together_widen_the_interval() -> None:
    values = [0.1] * 10 + [-0.1] * 10
    one_each = paired_difference(table({"a": values}), table({"a": [0.0] * 20}), "bf1")
    two = {"a": ["x"] * 10 + ["y"] * 10}
    together = paired_difference(table({"a": values}, two), table({"a": [0.0] * 20}, two), "bf1")
    assert together.high - together.low > 1.5 * (one_each.high - one_each.low)


def test_images_without_a_group_are_refused() -> None:
    whole = table({"a": [0.1, 0.2, 0.3]})
    with pytest.raises(MetricError, match="1 of 3 images of a have no group, image 2 first"):
        paired_difference(whole.assign(group=["x", "y", None]), whole, "bf1")
    with pytest.raises(MetricError, match="expected tables of `evaluate`"):
        paired_difference(whole.drop(columns="group"), whole, "bf1")


def test_other_images_or_metrics_are_refused() -> None:
    with pytest.raises(MetricError, match="same images once"):
        paired_difference(table({"a": [0.1, 0.2]}), table({"a": [0.1]}), "bf1")
    with pytest.raises(MetricError, match="with 'dice'"):
        paired_difference(table({"a": [0.1]}), table({"a": [0.1]}), "dice")


@pytest.mark.parametrize(
    ("low", "high", "groups", "higher", "said"),
    [
        (0.1, 0.2, 10, True, "better"),
        (-0.2, -0.1, 10, True, "worse"),
        (0.1, 0.2, 10, False, "worse"),
        (-0.2, -0.1, 10, False, "better"),
        (-0.1, 0.1, 10, True, "not significant"),
        (0.0, 0.1, 10, True, "not significant"),
        (float("nan"), float("nan"), 10, True, "not significant"),
        (0.1, 0.2, 9, True, "too few groups"),
        (-0.1, 0.1, 1, False, "too few groups"),
    ],
)
def test_a_verdict_says_which_way_and_wants_ten_groups(low, high, groups, higher, said) -> None:
    assert verdict(low, high, groups, higher_is_better=higher) == said
