from collections.abc import Iterator
from typing import Any

import pytest
import torch
from scoring import micro_world
from torch import Tensor

from medcore_prune._support.errors import CriterionError, RegistryError, StatisticsError
from medcore_prune.calibration.collector import Need
from medcore_prune.calibration.statistics import Statistics
from medcore_prune.criteria.magnitude import Magnitude
from medcore_prune.criteria.medcore import Medcore
from medcore_prune.criteria.zero import Zero
from medcore_prune.models.groups import StructuredGroup
from medcore_prune.scoring.criterion import unit_scores
from medcore_prune.scoring.recipes import (
    Baseline,
    available_baselines,
    baseline_info,
    baselines,
    get_baseline,
    register_baseline,
)
from medcore_prune.scoring.registry import criteria, register_criterion

BOTH = {Need.FISHER, Need.REFERENCE_FISHER, Need.REFERENCE_WEIGHTS}


@pytest.fixture(autouse=True)
def _forget() -> Iterator[None]:
    yield
    for registry in (criteria, baselines):
        for entry in registry.entries():
            if entry.origin != "built-in":
                registry.unregister(entry.name)


def column_sum(group: StructuredGroup) -> Tensor:
    """Sum of a unit's columns. And more."""
    return group.layer_out.weight.detach().abs().sum(0)[group.out_cols].sum(1)


@pytest.mark.parametrize(
    ("name", "needs", "lambda_b", "aggregation", "quotas", "source"),
    [
        ("random", set(), 5.0, None, "uniform", "arXiv 2205.05676"),
        ("magnitude", set(), 5.0, None, "uniform", "arXiv 1506.02626"),
        ("zero_fisher", {Need.FISHER}, 1.0, "pooled", "sensitivity", "arXiv 1905.10650"),
        ("vanilla_fisher", {Need.FISHER}, 0.0, "pooled", "sensitivity", "arXiv 1801.05787"),
        ("original_medcore", {Need.FISHER, Need.REFERENCE_WEIGHTS}, 0.0, "pooled", "sensitivity", "arXiv 2605.13688"),
        ("medcore", BOTH, 5.0, "mean_std", "sensitivity", "arXiv 2605.13688"),
        ("medcore_untuned", BOTH, 5.0, "mean_std", "sensitivity", "arXiv 2605.13688"),
        ("zero_fisher_full", {Need.FISHER}, 5.0, "mean_std", "sensitivity", "arXiv 2605.13688"),
        ("taylor", {Need.MEAN_GRADIENT}, 0.0, None, "uniform", "torch-pruning"),
    ],
)
def test_the_methods_of_the_comparison(
    name: str, needs: set[Need], lambda_b: float, aggregation: str | None, quotas: str, source: str
) -> None:
    recipe = get_baseline(name)
    assert (recipe.name, recipe.needs, recipe.quotas) == (name, needs, quotas)
    assert (recipe.lambda_b, recipe.aggregation) == (lambda_b, aggregation)
    assert source in recipe.source
    assert recipe.description
    assert recipe.stochastic == (name == "random")
    assert baseline_info(name).origin == "built-in"


def test_what_tells_the_fisher_methods_apart() -> None:
    full, medcore, untuned = map(get_baseline, ("zero_fisher_full", "medcore", "medcore_untuned"))
    assert full.with_settings(alpha=medcore.setting("alpha")).settings == medcore.settings
    assert full.tau == medcore.tau == 0.25
    assert (untuned.setting("alpha"), untuned.setting("beta"), untuned.tau, untuned.tunable) == (0.5, 1.0, 0.0, ())
    original = get_baseline("original_medcore")
    assert (original.setting("alpha"), original.setting("normalise_terms")) == (0.5, True)
    assert original.setting("reset_fisher") == "adapted"


def test_every_baseline_builds_and_scores() -> None:
    world = micro_world()
    for name in available_baselines():
        scores = unit_scores(get_baseline(name).build(**world.inputs), world.model)
        assert len(scores) == 4, name


def test_the_seed_reaches_a_stochastic_method() -> None:
    world = micro_world()
    one, other = (unit_scores(get_baseline("random").build(seed=seed), world.model) for seed in (0, 1))
    assert not torch.equal(one[0, "heads"], other[0, "heads"])


def test_settings_may_be_changed_and_reach_the_criterion() -> None:
    medcore = get_baseline("medcore")
    other = medcore.with_settings(beta=0.25, lambda_b=2.0, quotas="uniform", tau=0.1)
    assert (other.name, other.quotas, other.tau, other.lambda_b) == ("medcore", "uniform", 0.1, 2.0)
    built = other.build(micro_world().tensors.statistics())
    assert isinstance(built, Medcore)
    assert (built.aggregator.beta, built.lambda_b) == (0.25, 2.0)
    assert (medcore.setting("beta"), medcore.quotas) == (1.0, "sensitivity")


def test_settings_decide_what_is_needed() -> None:
    assert get_baseline("medcore").with_settings(alpha=1.0).needs == {Need.FISHER}
    assert get_baseline("magnitude").with_settings(quotas="sensitivity").needs == {Need.FISHER}
    assert get_baseline("taylor").with_settings(quotas="sensitivity").needs == {Need.FISHER, Need.MEAN_GRADIENT}


def test_a_setting_that_is_not_there() -> None:
    with pytest.raises(RegistryError, match="unknown setting of baseline 'medcore' 'bet': did you mean 'beta'"):
        get_baseline("medcore").with_settings(bet=1)
    with pytest.raises(RegistryError, match="unknown quotas 'fair': expected one of uniform, sensitivity"):
        get_baseline("medcore").with_settings(quotas="fair")
    assert get_baseline("magnitude").available_settings == ("p", "quotas", "tau")
    assert get_baseline("magnitude").setting("beta") is None


def test_build_names_what_is_missing() -> None:
    with pytest.raises(CriterionError, match=r"needs statistics: collect them with medcore_prune\.calibrate"):
        get_baseline("zero_fisher").build()
    poor = Statistics.from_tensors(mean_gradient=micro_world().tensors.mean_gradient)
    with pytest.raises(StatisticsError, match="hold no fisher"):
        get_baseline("magnitude").with_settings(quotas="sensitivity").build(poor)


def test_a_users_criterion_is_a_baseline_with_uniform_quotas() -> None:
    assert "column_sum" not in available_baselines()
    register_criterion("column_sum", source="a test")(column_sum)
    assert "column_sum" in available_baselines()
    recipe = get_baseline("column_sum")
    assert (recipe.quotas, recipe.source, recipe.settings) == ("uniform", "a test", {})
    assert recipe.description == "Sum of a unit's columns. And more."
    assert baseline_info("column_sum").origin == "user"
    world = micro_world()
    expected = column_sum(world.groups[0]).double()
    torch.testing.assert_close(unit_scores(recipe.build(), world.model)[0, "heads"], expected)


def test_built_in_criteria_are_baselines_when_named_alone() -> None:
    assert not {"zero", "reset", "exact"} & set(available_baselines(include_slow=True))
    assert get_baseline("zero").criterion is Zero
    assert get_baseline("exact").cost == "slow"


def test_a_slow_method_runs_only_when_named() -> None:
    register_criterion("column_sum", cost="slow")(column_sum)
    assert "column_sum" not in available_baselines()
    assert "column_sum" in available_baselines(include_slow=True)


def test_a_recipe_of_ones_own_takes_the_place_of_the_automatic_one() -> None:
    register_criterion("column_sum")(column_sum)

    @register_baseline("column_sum", source="mine")
    def column_sums() -> Baseline:
        """With quotas by sensitivity."""
        return Baseline(criteria.get("column_sum"), quotas="sensitivity")

    assert available_baselines().count("column_sum") == 1
    assert (get_baseline("column_sum").quotas, get_baseline("column_sum").source) == ("sensitivity", "mine")


def test_a_criterion_may_not_take_the_name_of_a_built_in_baseline() -> None:
    register_criterion("zero_fisher")(column_sum)
    for look_up in (available_baselines, lambda: get_baseline("random")):
        with pytest.raises(RegistryError, match="criterion 'zero_fisher' has the name of a built-in baseline"):
            look_up()


def test_what_is_no_recipe() -> None:
    with pytest.raises(RegistryError, match="baseline 'nothing': expected a function that returns a Baseline, got 3"):
        register_baseline("nothing")(lambda: 3)  # type: ignore[arg-type,return-value]
    with pytest.raises(
        RegistryError, match="unknown setting of a baseline of Magnitude 'order': available are p, quotas, tau"
    ):
        Baseline(Magnitude, {"order": 1})
    with pytest.raises(RegistryError, match="unknown setting of a baseline of Magnitude 'beta'"):
        Baseline(Magnitude, tunable=("beta",))


def test_a_recipe_that_cannot_be_is_named() -> None:
    with pytest.raises(
        RegistryError, match="baseline 'mine': unknown setting of a baseline of Medcore 'lambda_c': did"
    ):
        register_baseline("mine")(lambda: Baseline(Medcore, {"lambda_c": 1.0}))
    with pytest.raises(RegistryError, match="unknown setting of baseline 'medcore' 'lambda_c'"):
        get_baseline("medcore").with_settings(lambda_c=1.0)


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ("zero", r"^'zero' is no class of criteria: give medcore_prune\.get_criterion\('zero'\)$"),
        (Magnitude(p=1), "is no class of criteria: give Magnitude, and its settings as `settings`$"),
        (3, r"^3 is no class of criteria: give what medcore_prune\.get_criterion returns, or a subclass"),
        (int, "is no class of criteria: give what"),
    ],
)
def test_a_recipe_takes_a_class_of_criteria(given: Any, says: str) -> None:
    with pytest.raises(RegistryError, match=says):
        Baseline(given, {"lambda_b": 0.0})


def test_an_unknown_name() -> None:
    with pytest.raises(RegistryError, match="unknown method 'zerofisher': did you mean 'zero_fisher'"):
        get_baseline("zerofisher")


def test_every_tunable_setting_is_one() -> None:
    for name in available_baselines():
        recipe = get_baseline(name)
        assert set(recipe.tunable) <= set(recipe.available_settings), name
