import pytest
import torch
from scoring import micro_world
from torch import nn

from medcore_prune._support.errors import CriterionError, StatisticsError
from medcore_prune.calibration.views import Population, fisher, mean_gradient, reference_parameters
from medcore_prune.models.groups import groups_of
from medcore_prune.models.segment_anything import build_sam
from medcore_prune.scoring.registry import build_criterion
from medcore_prune.scoring.units import combine, parameters, unit_sums

POOLED = Population({"a": 0.375, "b": 0.625}, 1.0)


def test_a_population_mixes_its_data_sets() -> None:
    world = micro_world()
    group = world.groups[0]
    tensors, statistics, where = (
        world.tensors,
        world.tensors.statistics(),
        (group.inputs[0].layer, group.inputs[0].name),
    )
    for read, source in ((fisher, tensors.fisher), (mean_gradient, tensors.mean_gradient)):
        own = read(statistics, POOLED, *where, lambda_b=0.0)
        for value, a, b in zip(own, source["a"][where[1]], source["b"][where[1]], strict=True):
            torch.testing.assert_close(value, (0.375 * a + 0.625 * b).double(), rtol=1e-6, atol=1e-7)
    reference = fisher(statistics, POOLED, *where, which="reference")[0]
    assert not torch.equal(reference, fisher(statistics, POOLED, *where)[0])


def test_statistics_of_another_shape_are_refused() -> None:
    world = micro_world()
    other, name = nn.Linear(6, 3), world.groups[0].inputs[0].name
    for read in (
        lambda s: fisher(s, POOLED, other, name),
        lambda s: mean_gradient(s, POOLED, other, name, 0.0),
        lambda s: reference_parameters(s, other, name),
    ):
        with pytest.raises(StatisticsError, match=r"qkv has shape \(3, 6\), its statistics \(18, 6\): .* calibrate"):
            read(world.tensors.statistics())


def test_units_share_out_every_parameter_that_can_go() -> None:
    world = micro_world()
    for group in world.groups:
        total = unit_sums(group, lambda layer, _: parameters(layer)).sum()
        expected = group.inputs[0].layer.weight.sum() + group.inputs[0].layer.bias.sum() + group.layer_out.weight.sum()
        torch.testing.assert_close(total, expected.detach())


def test_a_layer_without_bias() -> None:
    bare = parameters(nn.Linear(2, 2, bias=False))
    assert combine(lambda a, b: a + b, bare, (torch.ones(2, 2), torch.ones(2)))[1] is None


def test_a_model_without_values_is_refused() -> None:
    groups = groups_of(build_sam("pocket", device="meta"))
    with pytest.raises(CriterionError, match="meta device has no weights to score: load a checkpoint"):
        build_criterion("magnitude").score(groups[0])
    assert build_criterion("random").score(groups[0]).shape == (12,)
