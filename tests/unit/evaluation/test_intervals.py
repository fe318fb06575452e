"""The bootstrap against a plain loop, and Holm's rule by hand."""

from typing import Any

import numpy as np
import pytest

from medcore_prune._support.errors import MetricError
from medcore_prune.evaluation.intervals import Bootstrap, Interval, holm, interval, p_value

GROUPS = {"a": ["v1", "v1", "v2", "v3", "v3", "v3"], "b": ["p", "q"]}


def _values(seed: int = 0, rows: int | None = None) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    shape = (lambda n: (n,)) if rows is None else (lambda n: (rows, n))
    return {name: rng.random(shape(len(labels))) for name, labels in GROUPS.items()}


def _loop(values: dict[str, np.ndarray], draws: int, rng: np.random.Generator) -> np.ndarray:
    """Plain restatement: draw groups, pool their images, average, then average the data sets."""
    result = []
    for _ in range(draws):
        means = []
        for name, labels in GROUPS.items():
            rows = np.atleast_2d(values[name])
            names = sorted(set(labels))
            chosen = rng.choice(names, size=len(names))
            images = [i for group in chosen for i, label in enumerate(labels) if label == group]
            means.append(rows[:, images].mean(axis=1))
        seeds = rng.integers(0, len(means[0]), size=len(means[0]))
        result.append(np.mean([mean[seeds].mean() for mean in means]))
    return np.array(result)


@pytest.mark.parametrize("rows", [None, 4])
def test_draws_have_the_distribution_of_a_plain_loop(rows: int | None) -> None:
    values = _values(rows=rows)
    _, fast = Bootstrap(GROUPS, seeds=rows or 1, draws=20000, seed=3).macro(values)
    slow = _loop(values, 6000, np.random.default_rng(4))
    assert fast.mean() == pytest.approx(slow.mean(), abs=0.006)
    assert fast.std() == pytest.approx(slow.std(), rel=0.06)
    assert np.quantile(fast, [0.025, 0.975]) == pytest.approx(np.quantile(slow, [0.025, 0.975]), abs=0.015)


def test_the_estimate_is_the_mean_of_data_set_means() -> None:
    point, _ = Bootstrap(GROUPS, draws=10).macro({"a": np.array([1.0, 1, 1, 1, 1, 1]), "b": np.array([0.0, 1.0])})
    assert point == pytest.approx(0.75)


def test_equal_results_have_an_interval_without_width() -> None:
    point, draws = Bootstrap(GROUPS, draws=50).macro({"a": np.full(6, 0.3), "b": np.full(2, 0.3)})
    assert interval(point, draws) == Interval(pytest.approx(0.3), pytest.approx(0.3), pytest.approx(0.3))


def test_methods_share_their_draws_so_that_a_constant_gain_is_certain() -> None:
    values = _values()
    bootstrap = Bootstrap(GROUPS, draws=500)
    better = {name: array + 0.01 for name, array in values.items()}
    difference = bootstrap.macro(better)[1] - bootstrap.macro(values)[1]
    assert difference == pytest.approx(np.full(500, 0.01))
    assert p_value(difference) == pytest.approx(2 / 501)


def test_draws_repeat_under_a_seed_and_differ_under_another() -> None:
    values = _values()
    first, again, other = (Bootstrap(GROUPS, draws=200, seed=s).macro(values)[1] for s in (1, 1, 2))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_few_groups_are_indicative() -> None:
    bootstrap = Bootstrap({"many": list("abcdefghij"), "few": ["s1", "s2", "s2"]}, draws=5)
    assert bootstrap.groups == {"many": 10, "few": 2}
    assert bootstrap.indicative == ["few"]


@pytest.mark.parametrize("nothing", [float("nan"), None, np.nan])
def test_images_without_a_group_are_refused(nothing: object) -> None:
    labels: list[Any] = ["s1", nothing, "s2", nothing]
    with pytest.raises(MetricError, match=r"2 of 4 images of b have no group, image 1 first: expected a group"):
        Bootstrap({"a": ["p", "q"], "b": labels}, draws=5)


def test_labels_that_are_written_alike_are_one_group() -> None:
    labels: list[Any] = [1, "1", 2, "3"]
    bootstrap = Bootstrap({"a": labels}, draws=500)
    assert bootstrap.groups == {"a": 3}
    assert np.isfinite(bootstrap.macro({"a": np.arange(4.0)})[1]).all()


def test_p_value_of_no_difference_is_one() -> None:
    assert p_value(np.zeros(100)) == 1.0


def test_an_interval_knows_whether_it_holds_zero() -> None:
    assert Interval(0.1, -0.01, 0.2).holds_zero
    assert not Interval(-0.1, -0.2, -0.01).holds_zero


def test_holm_by_hand() -> None:
    # sorted 0.01, 0.02, 0.03, 0.5: times 4, 3, 2, 1 gives 0.04, 0.06, 0.06, 0.5, never falling
    assert holm([0.03, 0.01, 0.5, 0.02]) == pytest.approx([0.06, 0.04, 0.5, 0.06])
    assert holm([0.4, 0.9]) == pytest.approx([0.8, 0.9])
    assert holm([0.7, 0.6]) == [1.0, 1.0]
    assert holm([]) == []
