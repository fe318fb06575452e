"""Averages of the start's and the trained weights: which is kept, and that it is the model it says."""

import copy
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tiny import tiny_sam
from tiny_samples import TinySamples
from torch import nn

import medcore_prune as mp
from medcore_prune._support.errors import DataError, MedcorePruneError
from medcore_prune.data.splits.split import Split, split
from medcore_prune.models.families import geometry_of
from medcore_prune.training.average import SHARES, average_with
from medcore_prune.training.judge import Judge
from medcore_prune.training.record import Scores


def images() -> Split:
    return split({"a": TinySamples("a", 8)}, fractions=(0.5, 0.25, 0.25))


def two_models() -> tuple[nn.Module, nn.Module]:
    """A start, and a model that is another one in its trained parts."""
    start = tiny_sam()
    trained = copy.deepcopy(start)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for value in trained.get_submodule("image_encoder").parameters():
            value.add_(torch.randn(value.shape, generator=generator), alpha=0.1)
    return start, trained


@pytest.mark.parametrize("best", SHARES)
def test_the_share_that_scores_best_is_what_the_model_holds(best: float) -> None:
    start, trained = two_models()
    model, name = copy.deepcopy(trained), "image_encoder.blocks.0.mlp.lin1.weight"
    ends = [each.state_dict()[name] for each in (start, trained)]
    span = (ends[1] - ends[0]).norm()

    def judge(seen: nn.Module) -> Scores:
        return Scores({"bf1": -abs(float((seen.state_dict()[name] - ends[0]).norm() / span) - best), "dice": 0.5})

    looks = average_with(model, start.state_dict(), judge)
    assert looks[0]["share"] == best
    assert sorted(look["share"] for look in looks) == sorted(SHARES)
    expected = {key: (1 - best) * value + best * trained.state_dict()[key] for key, value in start.state_dict().items()}
    assert all(torch.allclose(value, expected[key], atol=1e-6) for key, value in model.state_dict().items())
    if best in (0.0, 1.0):
        end = (start, trained)[int(best)].state_dict()
        assert all(torch.equal(value, end[key]) for key, value in model.state_dict().items())


def test_where_all_are_alike_the_training_is_kept() -> None:
    start, trained = two_models()
    model = copy.deepcopy(trained)
    looks = average_with(model, start.state_dict(), lambda _: Scores({"bf1": 0.5, "dice": 0.5}))
    assert [look["share"] for look in looks] == sorted(SHARES, reverse=True)
    assert all(torch.equal(value, trained.state_dict()[key]) for key, value in model.state_dict().items())


def test_what_does_not_score_at_all_is_never_chosen() -> None:
    start, trained = two_models()
    scores = iter([0.1, float("nan"), 0.2, float("nan"), 0.1])
    looks = average_with(trained, start.state_dict(), lambda _: Scores({"bf1": next(scores), "dice": 0.5}))
    assert looks[0]["share"] == 0.5


def test_an_adaptation_returns_the_average_that_is_best_on_validation_images(tmp_path: Path) -> None:
    parts, start = images(), tiny_sam()
    settings = mp.AdaptSettings(steps=3, batch_size=2, learning_rate=0.01, validate_every=3, augmentation="flips")
    averaged = copy.deepcopy(start)
    asked = replace(settings, average=True)
    record = mp.adapt(averaged, parts.train, parts.validation, asked, tmp_path / "averaged.pt")
    judge = Judge(parts.validation, geometry_of(start).frame, None)
    assert judge(averaged).means["bf1"] == max(look["bf1"] for look in record.averages) == record.averages[0]["bf1"]
    assert {look["share"]: look["bf1"] for look in record.averages}[0.0] == judge(start).means["bf1"]
    assert record.best_step is None
    # the other state holds the best of its looks
    mp.adapt(copy.deepcopy(start), parts.train, parts.validation, settings, tmp_path / "plain.pt")
    with pytest.raises(MedcorePruneError, match="average"):
        mp.adapt(copy.deepcopy(start), parts.train, parts.validation, asked, tmp_path / "plain.pt")


def test_an_average_without_validation_images_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="chosen on validation images, and there are none"):
        mp.adapt(
            tiny_sam(), images().train, {}, mp.AdaptSettings(steps=1, batch_size=1, average=True), tmp_path / "s.pt"
        )
    assert not (tmp_path / "s.pt").exists()


def test_another_augmentation_is_refused() -> None:
    with pytest.raises(MedcorePruneError, match="flips"):
        mp.AdaptSettings(augmentation="flip")
