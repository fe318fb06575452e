import dataclasses
from unittest.mock import patch

import pytest
import torch
from tiny import tiny_batch, tiny_sam
from torch import nn

import medcore_prune as mp
from medcore_prune._support.errors import MedcorePruneError
from medcore_prune.data.frame import Frame
from medcore_prune.models.families import geometry_of
from medcore_prune.training import objective
from medcore_prune.training.batches.augmentation import Augmentation
from medcore_prune.training.batches.batch import Batch
from medcore_prune.training.objective import TERMS, RecoveryLoss
from medcore_prune.training.pool import Pool
from medcore_prune.training.settings import RecoveryWeights

ALL = RecoveryWeights(1.0, 0.5, 0.25, 2.0, 3.0)
NONE = RecoveryWeights(1.0, 0.0, 0.0, 0.0, 0.0)


def batch() -> Batch:
    images, boxes, masks = tiny_batch(2)
    return Batch(images, boxes, masks)


def test_there_is_a_term_for_every_weight() -> None:
    assert list(TERMS) == [field.name for field in dataclasses.fields(RecoveryWeights)]


def test_the_total_is_the_weighted_sum_of_the_terms() -> None:
    loss = RecoveryLoss(tiny_sam(1), ALL, 5.0, "fp32")(tiny_sam(0), batch())
    assert list(loss.terms) == list(TERMS)
    expected = sum(getattr(ALL, name) * float(term) for name, term in loss.terms.items())
    assert loss.total.item() == pytest.approx(expected, rel=1e-5)
    assert all(float(term) > 0 for term in loss.terms.values())


def test_gradients_reach_the_model_and_never_the_teacher() -> None:
    model, teacher = tiny_sam(0), tiny_sam(1)
    RecoveryLoss(teacher, ALL, 5.0, "fp32")(model, batch()).total.backward()
    assert model.image_encoder.patch_embed.proj.weight.grad.abs().sum() > 0
    assert all(parameter.grad is None for parameter in teacher.parameters())


def test_a_model_equal_to_its_teacher_has_nothing_to_learn_from_it() -> None:
    terms = RecoveryLoss(tiny_sam(0), ALL, 5.0, "fp32")(tiny_sam(0), batch()).terms
    assert float(terms["feature"]) == 0
    assert float(terms["boundary_logit"]) == 0
    assert float(terms["dice"]) > 0


@pytest.mark.parametrize("name", list(TERMS))
def test_a_weight_of_zero_leaves_the_computation_out(name: str) -> None:
    def never(_views: object) -> torch.Tensor:
        raise AssertionError(f"{name} was computed")

    weights = dataclasses.replace(ALL, **{name: 0.0})
    with patch.dict(objective.TERMS, {name: dataclasses.replace(TERMS[name], of=never)}):
        terms = RecoveryLoss(tiny_sam(1), weights, 5.0, "fp32")(tiny_sam(0), batch()).terms
    assert set(terms) == set(TERMS) - {name}


@pytest.mark.parametrize(
    ("weights", "runs"), [(NONE, 0), (dataclasses.replace(NONE, feature=1), 1), (dataclasses.replace(ALL, dice=0), 1)]
)
def test_the_teacher_runs_only_where_a_term_reads_it(weights: RecoveryWeights, runs: int) -> None:
    teacher, seen = tiny_sam(1), []
    teacher.image_encoder.register_forward_hook(lambda *_: seen.append(1))
    RecoveryLoss(teacher, weights, 5.0, "fp32")(tiny_sam(0), batch())
    assert len(seen) == runs


@pytest.mark.parametrize("value", [-1.0, float("nan"), float("inf")])
def test_weights_out_of_range_are_refused(value: float) -> None:
    with pytest.raises(MedcorePruneError, match=r"recovery weight feature is .*expected a finite number"):
        RecoveryWeights(feature=value)


def test_weights_that_are_all_zero_are_refused() -> None:
    with pytest.raises(MedcorePruneError, match="all recovery weights are 0"):
        RecoveryWeights(0, 0, 0, 0, 0)


def pruned_pocket(level: str) -> tuple[nn.Module, nn.Module]:
    teacher = mp.zoo.pocket("adapted")
    return mp.prune(teacher, mp.plan(teacher, level, "random", seed=0)), teacher


@pytest.mark.parametrize("level", ["h40_m30", "h70_m95"])
def test_the_boundary_bce_does_not_dominate_dice_at_the_start(level: str) -> None:
    model, teacher = pruned_pocket(level)
    size = geometry_of(model).image_size
    pool = Pool.of_sets([mp.data.phantoms.make("phantom_polyp_a", seed=3, count=6)], size)
    drawn = pool.batch(0, seed=0, count=6, frame=Frame(size), augment=Augmentation())
    weights = RecoveryWeights(dice=1, boundary_bce=1, feature=0, boundary_logit=0, high_frequency=0)
    with torch.no_grad():
        terms = RecoveryLoss(teacher, weights, 5.0, "fp32")(model, drawn).terms
    assert 1 / 3 < float(terms["boundary_bce"]) / float(terms["dice"]) < 3
