"""Laws that every registered criterion keeps; a new criterion is tested by existing."""

import copy
from functools import cache

import pytest
import torch
from scoring import micro_world
from torch import Tensor, nn

from medcore_prune.models.groups import Family, groups_of
from medcore_prune.pruning.planning import make_plan
from medcore_prune.pruning.surgery import prune
from medcore_prune.scoring.criterion import Criterion, unit_scores
from medcore_prune.scoring.registry import available_criteria, build_criterion, criterion_info

STOCHASTIC = [name for name in available_criteria() if criterion_info(name).value.stochastic]
every_criterion = pytest.mark.parametrize("name", available_criteria())


def _built(name: str, world: object) -> Criterion:
    settings = {"progress": False} if name == "exact" else {}
    return build_criterion(name, **world.inputs, **settings)


@cache
def _base_scores(name: str) -> dict[tuple[int, Family], Tensor]:
    world = micro_world()
    return unit_scores(_built(name, world), world.model)


@every_criterion
def test_one_finite_score_a_unit(name: str) -> None:
    scores = _base_scores(name)
    shapes = {(group.block, group.family): (group.n_units,) for group in micro_world().groups}
    assert {key: tuple(values.shape) for key, values in scores.items()} == shapes
    assert all(bool(values.isfinite().all()) for values in scores.values())
    assert all(float(values.std()) > 0 for values in scores.values()), "scores that tell no unit from another"


@every_criterion
def test_the_same_scores_under_the_same_seed(name: str) -> None:
    world = micro_world()
    first, second = _base_scores(name), unit_scores(_built(name, world), world.model)
    assert first.keys() == second.keys()
    assert all(torch.equal(first[key], second[key]) for key in first)


@pytest.mark.parametrize("name", STOCHASTIC)
def test_a_stochastic_criterion_depends_on_the_seed(name: str) -> None:
    world = micro_world()
    scores = [build_criterion(name, **{**world.inputs, "seed": seed}).score_all(world.groups) for seed in (0, 1)]
    assert not any(torch.equal(one, other) for one, other in zip(*scores, strict=True))


def _hooks(model: nn.Module) -> list[int]:
    kinds = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
    return [len(getattr(module, kind)) for module in model.modules() for kind in kinds]


@every_criterion
def test_nothing_else_changes(name: str) -> None:
    world = micro_world()
    for model in (world.model, world.reference):
        model.train()
        model.image_encoder.blocks[0].eval()
        model.image_encoder.blocks[1].mlp.lin1.weight.requires_grad_(False)
    gradient = torch.ones_like(world.groups[0].inputs[0].layer.weight)
    world.groups[0].inputs[0].layer.weight.grad = gradient
    statistics = copy.deepcopy(world.tensors)

    def state() -> list[object]:
        models = (world.model, world.reference)
        modes = [module.training for model in models for module in model.modules()]
        wanted = [parameter.requires_grad for model in models for parameter in model.parameters()]
        return [modes, wanted, [_hooks(model) for model in models]]

    before, random_state = state(), torch.random.get_rng_state()
    weights = [copy.deepcopy(model.state_dict()) for model in (world.model, world.reference)]
    unit_scores(_built(name, world), world.model)
    assert state() == before
    assert torch.equal(torch.random.get_rng_state(), random_state)
    for model, kept in zip((world.model, world.reference), weights, strict=True):
        assert all(torch.equal(value, kept[key]) for key, value in model.state_dict().items())
    assert world.groups[0].inputs[0].layer.weight.grad is gradient
    assert bool((gradient == 1).all())
    assert [p for p in world.model.parameters() if p.grad is not None] == [world.groups[0].inputs[0].layer.weight]
    torch.testing.assert_close(statistics.__dict__, world.tensors.__dict__, rtol=0, atol=0)


# a stochastic score belongs to a place, not to a unit
@pytest.mark.parametrize("name", [name for name in available_criteria() if name not in STOCHASTIC])
def test_permuting_units_permutes_scores(name: str) -> None:
    world = micro_world()
    rng = torch.Generator().manual_seed(5)
    orders = [torch.randperm(group.n_units, generator=rng) for group in world.groups]
    other = world.permuted(orders)
    scores, moved = _base_scores(name), unit_scores(_built(name, other), other.model)
    for (key, values), order in zip(scores.items(), orders, strict=True):
        # torch-pruning's own importances add up in single precision
        torch.testing.assert_close(moved[key], values[order], rtol=1e-6, atol=1e-9)


@every_criterion
def test_a_torch_pruning_group_gets_the_scores_of_its_units(name: str) -> None:
    world = micro_world()
    criterion = _built(name, world)
    scores = _base_scores(name)
    criterion.bind(world.model)
    for group in world.groups:
        channels = criterion(group.tp_group)
        assert channels.shape == (group.layer_out.in_features,)
        expected = scores[group.block, group.family].to(channels.dtype)
        torch.testing.assert_close(channels[group.out_cols].mean(1), expected)


@every_criterion
def test_a_level_of_nothing_leaves_outputs_as_they_are(name: str) -> None:
    world = micro_world()
    plan = make_plan(world.model, "h0_m0", scores=_base_scores(name))
    images = torch.rand((1, 3, 16, 16), generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    with torch.no_grad():
        outputs = [model.image_encoder(images) for model in (world.model, prune(world.model, plan))]
    assert torch.equal(*outputs)


def test_the_world_holds_units_of_both_families() -> None:
    assert [group.n_units for group in groups_of(micro_world().model)] == [3, 24, 3, 24]
