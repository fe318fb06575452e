"""LAMP: equal norms, zeros, and its order."""

import torch

from medcore_prune.criteria.lamp import Lamp
from medcore_prune.criteria.magnitude import Magnitude
from medcore_prune.models.groups import groups_of
from tests.scoring import micro_sam


def test_within_a_group_the_order_is_that_of_the_norm() -> None:
    for group in groups_of(micro_sam(0)):
        assert torch.equal(Lamp().score(group).argsort(), Magnitude(p=2).score(group).argsort())


def test_units_of_equal_norm_score_alike_and_zeros_score_zero() -> None:
    model = micro_sam(0)
    group = groups_of(model)[1]
    with torch.no_grad():
        for _, layer in group.layers:
            layer.weight.zero_()
        group.inputs[0].layer.bias.zero_()
        assert Lamp().score(group).tolist() == [0.0] * group.n_units
        group.inputs[0].layer.bias[:4] = 3.0
    assert Lamp().score(group).tolist() == [0.25] * 4 + [0.0] * (group.n_units - 4)
