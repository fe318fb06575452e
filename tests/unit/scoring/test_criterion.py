import json
from collections.abc import Sequence
from dataclasses import FrozenInstanceError

import pytest
import torch
import torch_pruning as tp
from scoring import DATASETS, micro_world
from torch import Tensor

import medcore_prune as mp
from medcore_prune._support.errors import CriterionError, StatisticsError
from medcore_prune.calibration.collector import Need
from medcore_prune.calibration.statistics import Statistics
from medcore_prune.models.groups import StructuredGroup, groups_of
from medcore_prune.scoring.criterion import Criterion, check_scores, unit_scores
from medcore_prune.scoring.inputs import Inputs
from medcore_prune.scoring.registry import available_criteria, build_criterion, get_criterion


class Place(Criterion):
    """The index of a unit, plus 100 a block."""

    def score(self, group: StructuredGroup) -> Tensor:
        return torch.arange(group.n_units) + 100 * group.block


class Counting(Criterion):
    """Weight sums over the sum of all, counting how often all were taken."""

    def __init__(self) -> None:
        self.calls = 0

    def score_all(self, groups: Sequence[StructuredGroup]) -> list[Tensor]:
        self.calls += 1
        sums = [group.layer_out.weight.detach().abs().sum(0)[group.out_cols].sum(1) for group in groups]
        return [values / sum(float(s.sum()) for s in sums) for values in sums]


class Fixed(Criterion):
    def __init__(self, value: object) -> None:
        self.value = value

    def score(self, group: StructuredGroup) -> Tensor:
        return self.value  # type: ignore[return-value]


def test_a_criterion_is_a_torch_pruning_importance() -> None:
    assert isinstance(Place(), tp.importance.Importance)


def test_score_gives_score_all_and_the_reverse() -> None:
    groups = micro_world().groups
    assert [values.tolist() for values in Place().score_all(groups[:1])] == [[0, 1, 2]]
    torch.testing.assert_close(Counting().score(groups[0]), Counting().score_all(groups[:1])[0])


def test_a_criterion_without_scores() -> None:
    with pytest.raises(CriterionError, match="Criterion has no scores: define score or score_all"):
        Criterion().score(micro_world().groups[0])


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (torch.zeros(4), r"Fixed returned \(4,\) for the heads of block 0: expected a tensor of shape \(3,\)"),
        (torch.zeros(3, 1), r"Fixed returned \(3, 1\) for the heads of block 0"),
        ([0.0, 1.0, 2.0], r"Fixed returned list for the heads of block 0"),
        (None, r"Fixed returned NoneType for the heads of block 0"),
        (torch.tensor([0.0, float("nan"), 1.0]), "Fixed returned NaN or infinity for the heads of block 0: expected"),
        (torch.zeros(3, dtype=torch.complex64), "Fixed returned complex numbers for the heads of block 0: expected"),
    ],
)
def test_scores_that_cannot_be_used(value: object, message: str) -> None:
    with pytest.raises(CriterionError, match=message):
        unit_scores(Fixed(value), micro_world().model)
    world = micro_world()
    criterion = Fixed(value).bind(world.model)
    with pytest.raises(CriterionError, match=message):
        criterion(world.groups[0].tp_group)


def test_a_criterion_that_changes_the_model_is_refused() -> None:
    class Spoils(Place):
        def score(self, group: StructuredGroup) -> Tensor:
            group.layer_out.weight.data.neg_()
            return super().score(group)

    with pytest.raises(CriterionError, match="Spoils changed the weights of the model that it scored"):
        unit_scores(Spoils(), micro_world().model)


def test_too_few_scores() -> None:
    with pytest.raises(CriterionError, match="int returned 0 score tensors for 4 groups"):
        check_scores(3, micro_world().groups, [])


def test_unit_scores_by_block_and_family() -> None:
    scores = unit_scores(Place(), micro_world().model, mlp_group_size=4)
    assert {key: len(values) for key, values in scores.items()} == {
        (0, "heads"): 3,
        (0, "neurons"): 6,
        (1, "heads"): 3,
        (1, "neurons"): 6,
    }
    assert scores[1, "heads"].tolist() == [100, 101, 102]
    assert scores[0, "heads"].dtype == torch.float64


def test_a_group_of_some_channels_gets_the_scores_of_those() -> None:
    world = micro_world()
    criterion = Place().bind(world.model)
    # heads of two channels: channels 5, 0 and 1 belong to heads 2, 0 and 0
    assert criterion(world.groups[0].tp_subgroup([5, 0, 1])).tolist() == [2, 0, 0]
    assert criterion(world.groups[3].tp_subgroup([7, 3])).tolist() == [107, 103]


def test_a_group_that_starts_at_the_first_layer() -> None:
    world = micro_world()
    mlp = world.model.image_encoder.blocks[1].mlp
    graph = tp.DependencyGraph().build_dependency(mlp, torch.zeros(1, 6, dtype=torch.float64))
    group = graph.get_pruning_group(mlp.lin1, tp.prune_linear_out_channels, [4, 2])
    assert Place().bind(world.model)(group).tolist() == [104, 102]


def test_unbound_it_goes_by_what_torch_pruning_traced() -> None:
    group = micro_world().groups[2]
    # one attention alone is block 0, and without the number of heads each channel is a unit
    assert Place()(group.tp_group).tolist() == [0, 1, 2, 3, 4, 5]


def test_scores_that_need_all_units_are_taken_once_a_state_of_the_model() -> None:
    world = micro_world()
    criterion = Counting().bind(world.model)
    first = [criterion(group.tp_group) for group in world.groups]
    assert criterion.calls == 1
    with torch.no_grad():
        world.groups[1].layer_out.weight.mul_(2)
    second = [criterion(group.tp_group) for group in world.groups]
    assert criterion.calls == 2
    assert not torch.equal(first[0], second[0])
    expected = Counting().score_all(groups_of(world.model))
    torch.testing.assert_close(second[1], expected[1])


def test_bind_refuses_statistics_that_lack_something() -> None:
    world = micro_world()
    poor = Statistics.from_tensors(fisher=world.tensors.fisher)
    build_criterion("zero", statistics=poor).bind(world.model)
    with pytest.raises(StatisticsError, match=r"hold no .*reference_weights"):
        build_criterion("reset", statistics=poor).bind(world.model)


def test_bind_refuses_statistics_of_a_model_that_was_cut() -> None:
    world = micro_world()
    criterion = build_criterion("zero", **world.inputs)
    world.groups[1].tp_subgroup([0]).prune()
    with pytest.raises(StatisticsError, match=r"lin1 has shape \(23, 6\), the statistics \(24, 6\)"):
        unit_scores(criterion, world.model)


def test_needs_default_to_the_class() -> None:
    assert Place().needs == frozenset()
    assert build_criterion("zero", **micro_world().inputs).needs == {Need.FISHER}
    assert set(DATASETS) == {"a", "b"}


def test_a_constructor_that_takes_inputs_is_told_where_they_are() -> None:
    with pytest.raises(CriterionError, match=r"^Old takes statistics in its .*read self\.inputs\.statistics"):

        class Old(Place):
            def __init__(self, statistics: object) -> None:
                self.kept = statistics

    with pytest.raises(CriterionError, match=r"^Older takes model and seed in its constructor"):

        class Older(Place):
            seed: int = 0
            model: object = None


@pytest.mark.parametrize("name", available_criteria())
def test_inputs_are_no_settings(name: str) -> None:
    inputs = micro_world().inputs
    with pytest.raises((CriterionError, TypeError)):
        get_criterion(name)(inputs["statistics"])
    with pytest.raises(TypeError, match="unexpected keyword argument 'seed'"):
        get_criterion(name)(seed=1)


def test_a_plain_class_has_no_settings() -> None:
    assert (Place().settings, Place().to_json()) == ({}, {"criterion": "Place", "settings": {}})


def test_statistics_that_it_does_not_name_are_not_handed_out() -> None:
    world = micro_world()
    criterion = Place().bind(Inputs(world.model, statistics=world.tensors.statistics()))
    with pytest.raises(CriterionError, match="Place reads statistics and does not say which: name them"):
        _ = criterion.statistics


def test_what_it_was_given_stays_when_it_is_bound_to_a_model() -> None:
    world = micro_world()
    criterion = build_criterion("zero", statistics=world.tensors.statistics())
    assert criterion.bind(world.model) is criterion
    assert (criterion.inputs.model, criterion.statistics.datasets) == (world.model, ["a", "b"])
    with pytest.raises(CriterionError, match="criterion 'zero' needs statistics: collect them"):
        get_criterion("zero")().bind(world.model)


def test_an_object_without_inputs_reads_those_of_the_plan() -> None:
    world = micro_world()
    read = {"statistics": world.tensors.statistics(), "protect": 0}
    by_object = mp.plan(world.model, "h40_m30", get_criterion("zero")(beta=0.25), **read)
    by_recipe = mp.plan(world.model, "h40_m30", mp.get_baseline("zero").with_settings(beta=0.25), **read)
    assert by_object.hash == by_recipe.hash
    lots = get_criterion("random")()
    drawn = [mp.plan(world.model, "h40_m30", lots, seed=seed, protect=0) for seed in (0, 1)]
    assert drawn[0].hash != drawn[1].hash


@pytest.mark.parametrize("name", available_criteria())
def test_settings_are_frozen_and_go_through_json(name: str) -> None:
    made = get_criterion(name)()
    record = json.loads(json.dumps(made.to_json()))
    assert record == {"criterion": name, "settings": record["settings"]}
    world = micro_world()
    assert build_criterion(record, **world.inputs).to_json() == made.to_json()
    for setting in made.settings:
        with pytest.raises(FrozenInstanceError):
            setattr(made, setting, None)


def test_other_settings_go_through_json_too() -> None:
    inputs = micro_world().inputs
    made = build_criterion("medcore", alpha=[0.25, 0.5], weights={"a": 1.0, "b": 3.0}, aggregation="mean_std", **inputs)
    again = build_criterion(json.loads(json.dumps(made.to_json())), **inputs)
    assert (again, again.settings["alpha"]) == (made, (0.25, 0.5))
    with pytest.raises(CriterionError, match="Fixed has settings of its own making: make it a frozen dataclass"):
        Fixed(3).to_json()
