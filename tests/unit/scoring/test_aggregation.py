import pytest
import torch
from scoring import micro_world

from medcore_prune._support.errors import CriterionError
from medcore_prune.scoring.aggregation import Aggregator, Population, family_normalised, populations

COUNTS = {"a": 3, "b": 5}


def test_pooled_is_one_population_by_sample() -> None:
    assert populations(COUNTS, "pooled") == [Population({"a": 3 / 8, "b": 5 / 8}, 1.0)]


def test_mean_std_is_one_population_a_data_set() -> None:
    assert populations(COUNTS, "mean_std") == [Population({"a": 1.0}, 0.5), Population({"b": 1.0}, 0.5)]
    weighted = populations(COUNTS, "mean_std", {"b": 6, "a": 2})
    assert [(list(p.shares), p.weight) for p in weighted] == [(["a"], 0.25), (["b"], 0.75)]


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ({"a": 1}, "data set weights name a: expected a, b"),
        ({"a": 1, "b": 1, "c": 1}, "data set weights name a, b, c: expected a, b"),
        ({"a": -1, "b": 2}, "expected finite numbers of at least 0"),
        ({"a": 0, "b": 0}, "expected finite numbers of at least 0, not all 0"),
        ({"a": float("nan"), "b": 1}, "expected finite numbers"),
    ],
)
def test_weights_that_do_not_fit(weights: dict[str, float], message: str) -> None:
    with pytest.raises(CriterionError, match=message):
        populations(COUNTS, "mean_std", weights)


def test_pooled_takes_no_weights() -> None:
    with pytest.raises(CriterionError, match="weights apply to aggregation 'mean_std'"):
        populations(COUNTS, "pooled", {"a": 1, "b": 1})


def test_no_data_set() -> None:
    with pytest.raises(CriterionError, match="hold no data set: calibrate on at least one"):
        populations({}, "pooled")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"aggregation": "median"}, "unknown aggregation 'median': expected one of pooled, mean_std"),
        ({"beta": -0.1}, "beta is -0.1: expected a finite number of at least 0"),
        ({"beta": float("inf")}, "beta is inf"),
    ],
)
def test_settings_out_of_range(settings: dict[str, object], message: str) -> None:
    with pytest.raises(CriterionError, match=message):
        Aggregator(**settings)  # type: ignore[arg-type]


def test_families_are_normalised_apart_over_all_their_units() -> None:
    groups = micro_world().groups
    # heads 1, 1, 1 and 3, 3, 3: mean 2; neurons all 0
    scores = [torch.full((g.n_units,), 1.0 + 2 * g.block if g.family == "heads" else 0.0) for g in groups]
    normalised = family_normalised(groups, scores)
    assert [values.unique().tolist() for values in normalised] == [[0.5], [0.0], [1.5], [0.0]]


def test_negative_scores_keep_their_sign() -> None:
    groups = micro_world().groups[:1]
    assert family_normalised(groups, [torch.tensor([-1.0, 2.0, -3.0])])[0].tolist() == [-0.5, 1.0, -1.5]


def _joined(beta: float, second: float) -> list[float]:
    groups = micro_world().groups[:1]
    table = {"a": torch.tensor([1.0, 2.0, 3.0]), "b": second * torch.tensor([3.0, 2.0, 1.0])}

    def score(population: Population) -> list[torch.Tensor]:
        return [table[next(iter(population.shares))].double()]

    return Aggregator("mean_std", beta).score(groups, COUNTS, score)[0].tolist()


def test_mean_and_population_deviation_by_hand() -> None:
    # over their mean of 2: 0.5, 1, 1.5 and 1.5, 1, 0.5; the mean is 1, the deviation 0.5, 0, 0.5
    assert _joined(0.0, 1.0) == pytest.approx([1.0, 1.0, 1.0])
    assert _joined(1.0, 1.0) == pytest.approx([1.5, 1.0, 1.5])


def test_a_data_set_with_a_large_loss_does_not_drown_the_others() -> None:
    assert _joined(1.0, 1000.0) == pytest.approx(_joined(1.0, 1.0))


def test_one_data_set_has_no_deviation() -> None:
    groups = micro_world().groups[:1]
    values = torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64)
    assert Aggregator("mean_std", 9.0).score(groups, {"a": 4}, lambda _: [values])[0].tolist() == [0.5, 1.0, 1.5]
