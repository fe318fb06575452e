import inspect
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest
import torch
import torch_pruning as tp
from scoring import micro_world
from torch import Tensor

from medcore_prune._support.errors import CriterionError, RegistryError, StatisticsError
from medcore_prune.calibration.collector import Need
from medcore_prune.calibration.statistics import Statistics
from medcore_prune.models.groups import StructuredGroup
from medcore_prune.scoring.adapters import as_criterion, group_seed
from medcore_prune.scoring.criterion import Criterion
from medcore_prune.scoring.registry import (
    available_criteria,
    build_criterion,
    criteria,
    criterion_factory,
    get_criterion,
    register_criterion,
)


@pytest.fixture(autouse=True)
def _forget() -> Iterator[None]:
    yield
    for entry in criteria.entries():
        if entry.origin != "built-in":
            criteria.unregister(entry.name)


def column_norm(group: StructuredGroup) -> Tensor:
    """Norm of a unit's columns."""
    return group.layer_out.weight.detach().square().sum(0)[group.out_cols].sum(1).sqrt()


def first_order(group: StructuredGroup, statistics: object, scale: float = 1.0) -> Tensor:
    """Gradient times weight of the columns."""
    gradient = statistics.mean_gradient("a", group.name_out)[0]
    return scale * (gradient * group.layer_out.weight.detach()).abs().sum(0)[group.out_cols].sum(1)


def test_a_plain_function_of_a_group() -> None:
    assert register_criterion("column_norm", source="a test")(column_norm) is column_norm
    made = get_criterion("column_norm")
    assert issubclass(made, Criterion)
    assert (made.cost, made.needs, made.stochastic, made.__doc__) == ("free", frozenset(), False, column_norm.__doc__)
    world = micro_world()
    criterion = build_criterion("column_norm", **world.inputs)
    torch.testing.assert_close(criterion.score_all(world.groups)[1], column_norm(world.groups[1]))


def test_a_function_of_statistics_needs_what_is_known_of_the_adapted_model() -> None:
    register_criterion("first_order")(first_order)
    made = get_criterion("first_order")
    assert (made.cost, made.needs) == ("calibration", {Need.FISHER, Need.MEAN_GRADIENT})
    world = micro_world()
    one, two = (build_criterion("first_order", **world.inputs, **s).score(world.groups[0]) for s in ({}, {"scale": 2}))
    torch.testing.assert_close(2 * one, two)


def test_a_function_may_say_what_it_needs_and_costs() -> None:
    register_criterion("first_order", needs={"mean_gradient"}, cost="slow")(first_order)
    made = get_criterion("first_order")
    assert (made.cost, made.needs) == ("slow", {Need.MEAN_GRADIENT})
    world = micro_world()
    poor = Statistics.from_tensors(fisher=world.tensors.fisher)
    with pytest.raises(StatisticsError, match="hold no mean_gradient"):
        build_criterion("first_order", statistics=poor).bind(world.model)


def test_a_function_of_a_seed_is_stochastic() -> None:
    def dice(group: StructuredGroup, seed: int) -> Tensor:
        return torch.rand(group.n_units, generator=torch.Generator().manual_seed(seed))

    assert criterion_factory("dice", dice).stochastic


def test_a_torch_pruning_importance_by_class_and_by_object() -> None:
    register_criterion("tp_magnitude")(tp.importance.GroupMagnitudeImportance)
    register_criterion("tp_lamp")(tp.importance.LAMPImportance())
    world = micro_world()
    group = world.groups[0]
    by_class = build_criterion("tp_magnitude", p=1, normalizer=None).score(group)
    channels = tp.importance.GroupMagnitudeImportance(p=1, normalizer=None)(group.tp_group)
    torch.testing.assert_close(by_class, channels.detach().view(3, 2).mean(1))
    by_object = build_criterion("tp_lamp").score(group)
    expected = tp.importance.LAMPImportance()(group.tp_group)
    torch.testing.assert_close(by_object, expected.detach().view(3, 2).mean(1))


def test_torch_prunings_random_importance_draws_by_seed_block_and_family() -> None:
    register_criterion("tp_random")(tp.importance.RandomImportance)
    world = micro_world()
    assert get_criterion("tp_random").stochastic
    torch.manual_seed(1)
    first = build_criterion("tp_random", seed=0).score_all(world.groups)
    torch.manual_seed(2)
    state = torch.random.get_rng_state()
    again = build_criterion("tp_random", seed=0).score_all(world.groups[::-1])[::-1]
    other = build_criterion("tp_random", seed=1).score_all(world.groups)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert all(torch.equal(one, same) for one, same in zip(first, again, strict=True))
    assert not any(torch.equal(one, new) for one, new in zip(first, other, strict=True))
    assert not torch.equal(first[0], first[2])


def test_seeds_of_groups_differ() -> None:
    seeds = {group_seed(seed, group) for seed in range(3) for group in micro_world().groups}
    assert len(seeds) == 12


def test_an_importance_is_called_as_it_is_on_a_torch_pruning_group() -> None:
    group = micro_world().groups[1].tp_group
    importance = tp.importance.MagnitudeImportance(p=2)
    assert torch.equal(as_criterion(importance)(group), importance(group))


def test_a_criterion_is_a_criterion_already() -> None:
    criterion = build_criterion("magnitude")
    assert as_criterion(criterion) is criterion


@pytest.mark.parametrize("thing", [tp.importance.LAMPImportance, 3, "magnitude"])
def test_what_is_no_criterion(thing: object) -> None:
    with pytest.raises(CriterionError, match="is no criterion: expected a Criterion or a torch-pruning importance"):
        as_criterion(thing)


def test_an_importance_that_has_nothing_to_say() -> None:
    silent: Callable[[object], None] = lambda group: None  # noqa: E731
    with pytest.raises(CriterionError, match=r"returned nothing for the heads of block 0: expected one .* 6 channels"):
        as_criterion(silent).score(micro_world().groups[0])
    with pytest.raises(CriterionError, match=r"returned shape \(2,\) for the heads of block 0"):
        as_criterion(lambda group: torch.zeros(2)).score(micro_world().groups[0])


def _backward(model: Any) -> None:
    for parameter in model.parameters():
        parameter.grad = torch.full_like(parameter, 0.5)


@pytest.mark.parametrize("kind", [tp.importance.GroupTaylorImportance, tp.importance.TaylorImportance])
def test_a_torch_pruning_importance_that_reads_gradients(kind: type[tp.importance.Importance]) -> None:
    world = micro_world()
    says = (
        rf"{kind.__name__} cannot score: it reads gradients, and .*{world.groups[0].inputs[0].name} has none: call loss"
    )
    with pytest.raises(CriterionError, match=says):
        as_criterion(kind()).score(world.groups[0])
    _backward(world.model)
    assert as_criterion(kind()).score(world.groups[0]).shape == (3,)
    world.groups[0].layer_out.weight.grad = None
    with pytest.raises(CriterionError, match=rf"{world.groups[0].name_out} has none"):
        as_criterion(kind()).score(world.groups[0])


@pytest.mark.parametrize("kind", [tp.importance.GroupHessianImportance, tp.importance.HessianImportance])
def test_a_torch_pruning_importance_that_accumulates_squared_gradients(kind: type[tp.importance.Importance]) -> None:
    world, importance = micro_world(), kind(normalizer=None)
    group = world.groups[1]
    with pytest.raises(
        CriterionError, match=r"reads squared gradients, and .*: call loss\.backward\(\) and then its acc"
    ):
        as_criterion(importance).score(group)
    _backward(world.model)
    importance.accumulate_grad(world.model)
    found = as_criterion(importance).score(group)
    # weight squared times gradient squared, the mean of a unit's row and its column
    both = group.inputs[0].layer.weight.square().sum(1), group.layer_out.weight.square().sum(0)
    torch.testing.assert_close(found, 0.25 * torch.stack(both).mean(0).detach(), check_dtype=False)


def test_a_torch_pruning_importance_that_reads_activations() -> None:
    world, importance = micro_world(), tp.importance.ActivationImportance()
    group = world.groups[1]
    with pytest.raises(CriterionError, match=rf"activations, and {group.name_out} has none: run the model on images"):
        as_criterion(importance).score(group)
    with importance.compute_importance(world.model):
        group.layer_out(torch.rand(2, 5, group.layer_out.in_features).double())
    assert as_criterion(importance).score(group).shape == (group.n_units,)


@pytest.mark.parametrize(
    ("importance", "says"),
    [
        (tp.importance.OBDCImportance(), "OBDCImportance cannot score: its Fisher is for layers that read one vector"),
        (
            tp.importance.BNScaleImportance(),
            "BNScaleImportance cannot score: .* transformer blocks have none: use Group",
        ),
    ],
)
def test_torch_pruning_importances_that_are_none_for_transformers(importance: Any, says: str) -> None:
    with pytest.raises(CriterionError, match=says):
        as_criterion(importance).score(micro_world().groups[0])


def test_what_cannot_be_registered() -> None:
    before = available_criteria()
    with pytest.raises(RegistryError, match="criterion 'empty' has no scores: define score or score_all"):
        register_criterion("empty")(type("Empty", (Criterion,), {}))
    with pytest.raises(RegistryError, match="criterion 'number' is 3: expected a Criterion class, a function"):
        register_criterion("number")(3)
    with pytest.raises(RegistryError, match="criterion 'greedy' asks for budget: expected parameters among statistics"):
        register_criterion("greedy")(lambda group, budget: None)
    with pytest.raises(RegistryError, match="criterion 'dear' has cost 'dear': expected one of free"):
        register_criterion("dear", cost="dear")(column_norm)
    assert available_criteria() == before


def test_a_class_keeps_its_own_needs_unless_told() -> None:
    @dataclass(frozen=True)
    class Mine(Criterion):
        needs = frozenset({Need.FISHER})
        cost = "calibration"
        factor: float = 1.0

        def score(self, group: StructuredGroup) -> Tensor:
            return self.statistics.fisher("a", group.name_out)[0].sum(0)[group.out_cols].sum(1)

    register_criterion("mine")(Mine)
    assert get_criterion("mine") is Mine
    assert (Mine.needs, Mine.cost) == ({Need.FISHER}, "calibration")
    assert list(inspect.signature(Mine).parameters) == ["factor"]


def test_build_names_what_is_absent() -> None:
    with pytest.raises(CriterionError, match=r"'zero' needs statistics: collect them with medcore_prune\.calibrate"):
        build_criterion("zero", seed=0)
    with pytest.raises(CriterionError, match="'exact' needs model and data: pass the model"):
        build_criterion("exact")


def test_build_refuses_a_setting_that_is_not_there() -> None:
    with pytest.raises(RegistryError, match="criterion 'magnitude' has no setting 'order': it has p"):
        build_criterion("magnitude", order=1)
    with pytest.raises(RegistryError, match="unknown criterion 'magnitud': did you mean 'magnitude'"):
        build_criterion("magnitud")
