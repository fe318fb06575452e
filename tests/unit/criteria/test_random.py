import torch
from scoring import micro_world

from medcore_prune.criteria.random import Random
from medcore_prune.scoring.inputs import Inputs


def _seeded(seed: int) -> Random:
    return Random().bind(Inputs(seed=seed))


def test_blocks_and_families_draw_different_numbers_whatever_their_order() -> None:
    groups = micro_world().groups
    forward, backward = _seeded(1).score_all(groups), _seeded(1).score_all(groups[::-1])[::-1]
    assert all(torch.equal(one, other) for one, other in zip(forward, backward, strict=True))
    assert not torch.equal(forward[0], forward[2])
    assert not torch.equal(forward[1][:3], forward[0])


def test_scores_are_uniform_in_the_unit_interval() -> None:
    groups = micro_world().groups
    drawn = torch.cat([values for seed in range(40) for values in _seeded(seed).score_all(groups)])
    assert 0 <= drawn.min() < 0.02
    assert 0.98 < drawn.max() < 1
    assert abs(drawn.mean() - 0.5) < 0.03
