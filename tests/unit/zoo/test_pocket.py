from pathlib import Path

import numpy as np
import pytest
import torch

from medcore_prune import zoo
from medcore_prune._support.errors import CheckpointError
from medcore_prune.data import phantoms
from medcore_prune.data.frame import Frame
from medcore_prune.evaluation.evaluate import predict, score
from medcore_prune.evaluation.floors import floor_masks
from medcore_prune.evaluation.images import EvaluationSet
from medcore_prune.models.families import blocks_of, geometry_of
from medcore_prune.models.segment_anything import build_sam
from medcore_prune.pruning.level import COMPARISON_LEVELS, ONE_TIME_LEVELS, SEQUENTIAL_LEVELS
from medcore_prune.pruning.planning import make_plan
from medcore_prune.pruning.surgery import verify
from medcore_prune.training.adapt import BLIND_BELOW, image_dependence
from medcore_prune.training.settings import AdaptSettings
from medcore_prune.zoo.train import STAGES, Stage, save_weights, train_stage

POLYPS = ("phantom_polyp_a", "phantom_polyp_b", "phantom_polyp_c")


def test_shape_of_the_pair() -> None:
    model = zoo.pocket("adapted")
    assert len(blocks_of(model)) == 12
    assert {block.num_heads for block in blocks_of(model)} == {12}
    assert geometry_of(model).image_size == 96
    assert 2e6 <= sum(p.numel() for p in model.image_encoder.parameters()) <= 3e6


def test_weights_are_small_enough_to_ship() -> None:
    size = sum(path.stat().st_size for path in Path(zoo.__file__).parent.glob("*.safetensors"))
    assert 0 < size <= 12e6


def test_relative_positions_are_trained() -> None:
    for block in zoo.pocket("adapted").image_encoder.blocks:
        assert float(block.attn.rel_pos_h.detach().abs().max()) > 0


def test_unknown_role() -> None:
    with pytest.raises(CheckpointError, match="expected one of reference, adapted"):
        zoo.pocket("medsam")  # type: ignore[arg-type]


def test_adapted_beats_the_floor_and_the_reference_on_validation_phantoms() -> None:
    means: dict[str, list[float]] = {"adapted": [], "reference": [], "ellipse": []}
    for name in POLYPS:
        images = EvaluationSet(phantoms.make(name, seed=1, count=16), Frame(96))
        for role in zoo.ROLES:
            means[role].append(score(predict(zoo.pocket(role), images), images)["bf1"].mean())
        means["ellipse"].append(score(floor_masks("ellipse", images), images)["bf1"].mean())
    bf1 = {who: float(np.mean(values)) for who, values in means.items()}
    assert bf1["adapted"] > bf1["ellipse"] + 0.2
    assert bf1["adapted"] > bf1["reference"] + 0.2


NAMED_LEVELS = tuple(dict.fromkeys(map(str, (*COMPARISON_LEVELS, *ONE_TIME_LEVELS))))


def test_named_levels_give_distinct_plans_but_for_the_plateau() -> None:
    model = zoo.pocket("adapted")
    plans = {level: make_plan(model, level) for level in NAMED_LEVELS}
    # METHOD section 7: with two protected blocks at most 110 of 144 heads can go, which both levels ask for
    assert plans.pop("h80_m95").hash == plans["h84_m95"].hash
    assert len({plan.hash for plan in plans.values()}) == len(plans) == 5
    second = [make_plan(model, level, only=(10, 11), protect=0) for level in SEQUENTIAL_LEVELS]
    assert len({plan.hash for plan in second}) == 3


def test_named_levels_remove_the_fractions_that_they_remove_of_vit_b() -> None:
    small, large = zoo.pocket("adapted"), build_sam("vit_b", "meta")
    for level in NAMED_LEVELS:
        for family in ("heads", "neurons"):
            fractions = [make_plan(model, level).effective_fraction(family) for model in (small, large)]
            assert fractions[0] == pytest.approx(fractions[1], abs=0.01)


@pytest.mark.parametrize("level", NAMED_LEVELS)
def test_removal_equals_masking_on_trained_weights(level: str) -> None:
    model = zoo.pocket("adapted")
    images = torch.rand((1, 3, 96, 96), generator=torch.Generator().manual_seed(0))
    assert verify(model, make_plan(model, level), images) < 1e-5


def test_training_goes_through_and_its_weights_load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stage = Stage("short", "adapted", ("phantom_skin",), 2, AdaptSettings(steps=2, batch_size=2))
    model = zoo.pocket("reference")
    losses = train_stage(stage, model, tmp_path)
    assert len(losses) == 2
    save_weights(tmp_path / "pocket_adapted.safetensors", model)
    monkeypatch.setattr(zoo, "files", lambda _: tmp_path)
    loaded = zoo.pocket("adapted").state_dict()
    assert all(torch.allclose(value, loaded[name], atol=2e-3, rtol=1e-3) for name, value in model.state_dict().items())


def test_stages_build_on_each_other_with_distinct_states() -> None:
    assert [stage.role for stage in STAGES if stage.role] == ["reference", "adapted"]
    assert STAGES[-1].role == "adapted"
    assert len({stage.name for stage in STAGES}) == len(STAGES)


def test_both_models_look_at_the_image() -> None:
    batch = next(EvaluationSet(phantoms.make("phantom_polyp_a", seed=1, count=8), Frame(96)).batches(8)).images
    for role in zoo.ROLES:
        assert image_dependence(zoo.pocket(role), batch) > 0.1


def test_a_blind_model_is_told_from_a_seeing_one() -> None:
    model = zoo.pocket("adapted")
    batch = torch.rand((4, 3, 96, 96), generator=torch.Generator().manual_seed(0))
    assert image_dependence(model, batch[:1].expand_as(batch)) < BLIND_BELOW < image_dependence(model, batch)
