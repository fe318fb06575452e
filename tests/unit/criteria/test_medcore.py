import numpy as np
import pytest
import torch
from scoring import micro_world
from torch import Tensor

from medcore_prune._support.errors import CriterionError
from medcore_prune.calibration.collector import Need
from medcore_prune.calibration.statistics import Statistics
from medcore_prune.criteria.medcore import Medcore
from medcore_prune.criteria.reset import Reset, cross_fisher
from medcore_prune.criteria.zero import Zero
from medcore_prune.scoring.aggregation import balanced_alpha
from medcore_prune.scoring.criterion import Criterion
from medcore_prune.scoring.inputs import Inputs


def _bound(criterion: Criterion, statistics: Statistics) -> Criterion:
    return criterion.bind(Inputs(statistics=statistics))


def _scores(criterion: object) -> list[Tensor]:
    return criterion.score_all(micro_world().groups)


def test_alpha_one_is_the_zero_criterion_and_reads_no_reference() -> None:
    poor = Statistics.from_tensors(fisher=micro_world().tensors.fisher)
    full = _bound(Medcore(alpha=1), poor)
    assert full.needs == {Need.FISHER}
    for one, other in zip(_scores(full), _scores(_bound(Zero(), poor)), strict=True):
        torch.testing.assert_close(one, other)


def test_alpha_as_an_array_is_one_a_block() -> None:
    statistics = micro_world().tensors.statistics()
    alphas = [0.5] * (1 + max(group.block for group in micro_world().groups))
    expected = _scores(_bound(Medcore(alpha=0.5), statistics))
    for given in (np.array(alphas), torch.tensor(alphas)):
        for one, other in zip(_scores(_bound(Medcore(alpha=given), statistics)), expected, strict=True):
            torch.testing.assert_close(one, other)


def test_alpha_zero_is_the_reset_criterion() -> None:
    statistics = micro_world().tensors.statistics()
    reset, expected = (_scores(_bound(each, statistics)) for each in (Medcore(alpha=0), Reset()))
    for one, other in zip(reset, expected, strict=True):
        torch.testing.assert_close(one, other)


def test_a_reference_equal_to_the_model_leaves_the_zero_term() -> None:
    world = micro_world()
    own = {name: tuple(p.detach() for p in world.model.get_submodule(name).parameters()) for name in _names(world)}
    world.tensors.reference_weights = own
    statistics = world.tensors.statistics()
    assert all(float(values.abs().sum()) == 0 for values in _bound(Reset(), statistics).score_all(world.groups))
    balanced, zero = (_bound(each(), statistics).score_all(world.groups) for each in (Medcore, Zero))
    for one, other in zip(balanced, zero, strict=True):
        torch.testing.assert_close(one, other)


def _names(world: object) -> list[str]:
    return [name for group in world.groups for name, _ in group.layers]


def test_balanced_terms_weigh_the_same() -> None:
    zero, reset = torch.tensor([1.0, 3.0]), torch.tensor([10.0, 30.0])
    alpha = balanced_alpha(zero, reset)
    assert alpha == pytest.approx(20 / 22)
    assert alpha * zero.mean() == pytest.approx(float((1 - alpha) * reset.mean()))
    assert balanced_alpha(zero, torch.zeros(2)) == 1.0
    assert balanced_alpha(torch.zeros(2), reset) == 1.0
    assert balanced_alpha(torch.zeros(2), torch.zeros(2)) == 1.0


def test_what_it_needs_depends_on_its_settings() -> None:
    assert Medcore().needs == {Need.FISHER, Need.REFERENCE_FISHER, Need.REFERENCE_WEIGHTS}
    assert Medcore(reset_fisher="adapted").needs == {Need.FISHER, Need.REFERENCE_WEIGHTS}
    assert Reset(reset_fisher="adapted").needs == {Need.FISHER, Need.REFERENCE_WEIGHTS}


@pytest.mark.parametrize("alpha", [-0.1, 1.1, float("nan"), "half", [], [0.5, 2.0], ["balanced", 0.5]])
def test_alpha_out_of_range(alpha: object) -> None:
    with pytest.raises(CriterionError, match=r"alpha is .*: expected a number in \[0, 1\], one a block, or 'balanced'"):
        Medcore(alpha=alpha)


def test_alpha_for_too_few_blocks() -> None:
    with pytest.raises(CriterionError, match="alpha has 1 numbers, but there is a block 1: give one a block"):
        _scores(_bound(Medcore(alpha=[0.5]), micro_world().tensors.statistics()))


@pytest.mark.parametrize("criterion", [Medcore, Reset])
def test_an_unknown_fisher_of_the_reset_term(criterion: type) -> None:
    with pytest.raises(CriterionError, match="unknown reset_fisher 'both': expected one of cross, adapted"):
        criterion(reset_fisher="both")


def test_cross_fisher_does_not_underflow() -> None:
    tiny = torch.full((1, 1), 1e-30)
    assert (tiny * tiny).item() == 0
    torch.testing.assert_close(cross_fisher((tiny, None), (tiny, None))[0], tiny)
