"""Disturbed Taylor: no labels, no decoder, and what its seed means."""

import pytest
import torch

from medcore_prune._support.errors import CriterionError
from medcore_prune.criteria.disturbed_taylor import DisturbedTaylor
from medcore_prune.scoring.inputs import Inputs
from tests.scoring import TwoImages, micro_world


def test_masks_are_not_read() -> None:
    world = micro_world()
    data = {"a": TwoImages("a", 0)}
    criterion = DisturbedTaylor().bind(Inputs(world.model, data=data))
    scores = criterion.score_all(world.groups)
    for sample in data["a"]:
        sample.mask[:] = ~sample.mask
    again = criterion.score_all(world.groups)
    assert all(torch.equal(*pair) for pair in zip(scores, again, strict=True))


def test_the_size_of_a_batch_does_not_matter_beyond_rounding() -> None:
    world = micro_world()
    one, all_at_once = (
        DisturbedTaylor(batch_size=size).bind(Inputs(world.model, data=world.data)).score_all(world.groups)
        for size in (1, 8)
    )
    for values, expected in zip(one, all_at_once, strict=True):
        torch.testing.assert_close(values, expected, rtol=1e-5, atol=1e-7)


def test_another_seed_is_another_noise() -> None:
    world = micro_world()
    first, second = (
        DisturbedTaylor().bind(Inputs(world.model, data=world.data, seed=seed)).score(world.groups[0])
        for seed in (0, 1)
    )
    assert not torch.equal(first, second)


def test_no_images_are_refused() -> None:
    world = micro_world()
    with pytest.raises(CriterionError, match="at least one"):
        DisturbedTaylor().bind(Inputs(world.model, data={})).score_all(world.groups)
