import pytest
import torch
from scoring import micro_world
from torch import nn

from medcore_prune._support.errors import CriterionError
from medcore_prune.models.groups import groups_of
from medcore_prune.models.segment_anything import build_sam
from medcore_prune.scoring.registry import build_criterion
from medcore_prune.scoring.units import combine, parameters, unit_sums


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
