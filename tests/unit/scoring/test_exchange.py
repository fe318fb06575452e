from typing import Any

import numpy as np
import pytest
import torch
from tiny import TINY, tiny_batch, tiny_sam
from torch import nn
from torch.nn.utils import prune as torch_prune
from torch_pruning.pruner.importance import LAMPImportance

import medcore_prune as mp
from medcore_prune._support.errors import CriterionError, RegistryError
from medcore_prune.models.families import blocks_of
from medcore_prune.models.groups import groups_of
from medcore_prune.models.protocol import embed, low_res_logits
from medcore_prune.pruning.planning import make_plan
from medcore_prune.pruning.surgery import parameter_masks
from medcore_prune.scoring.criterion import unit_scores
from medcore_prune.scoring.exchange import WeightScores, scores_frame


def test_scores_of_single_weights_are_summed_over_units() -> None:
    model = tiny_sam()
    absolute = {name: parameter.abs() for name, parameter in model.named_parameters()}
    found, expected = (unit_scores(c, model) for c in (WeightScores(absolute), mp.get_criterion("magnitude")(p=1)))
    for key, values in expected.items():
        torch.testing.assert_close(found[key], values)


def test_biases_may_be_left_out() -> None:
    model = tiny_sam()
    ones = {name: torch.ones_like(p) for name, p in model.named_parameters() if name.endswith("weight")}
    scores = unit_scores(WeightScores(ones), model)
    assert scores[0, "heads"].tolist() == [18.0 * 24 + 6 * 24] * 4
    assert scores[0, "neurons"].tolist() == [48.0] * 96


def test_a_dict_of_scores_makes_a_plan() -> None:
    model = tiny_sam()
    scores = {name: torch.rand_like(parameter) for name, parameter in model.named_parameters()}
    plan = mp.plan(model, "h50_m70", WeightScores(scores))
    assert plan.blocks == make_plan(model, "h50_m70", scores=unit_scores(WeightScores(scores), model)).blocks


def test_scores_may_be_arrays() -> None:
    model = tiny_sam()
    tensors = {name: parameter.detach().abs() for name, parameter in model.named_parameters()}
    arrays = {name: value.numpy() for name, value in tensors.items()}
    found, expected = (unit_scores(WeightScores(scores), model) for scores in (arrays, tensors))
    assert all(torch.equal(found[key], expected[key]) for key in expected)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (
            lambda scores, name: scores.update({name: np.array(["a"])}),
            r"proj\.weight are ndarray, expected a tensor or",
        ),
        (lambda scores, name: scores.update({name: None}), r"proj\.weight are NoneType, expected a tensor or an array"),
        (lambda scores, name: scores.pop(name), r"no scores of image_encoder\.blocks\.0\.attn\.proj\.weight"),
        (lambda scores, name: scores.update({name: torch.ones(3)}), r"have shape \(3,\), expected \(24, 24\)"),
    ],
)
def test_what_is_missing_or_misshapen_is_named(change: Any, says: str) -> None:
    model = tiny_sam()
    scores = dict(model.named_parameters())
    change(scores, "image_encoder.blocks.0.attn.proj.weight")
    with pytest.raises(CriterionError, match=says):
        unit_scores(WeightScores(scores), model)


def test_a_table_has_a_row_a_unit() -> None:
    model, criterion = tiny_sam(), mp.get_criterion("magnitude")()
    table = scores_frame(criterion, model)
    assert list(table) == ["block", "family", "unit", "score", "cost_params"]
    assert len(table) == TINY.depth * (4 + 96)
    scores = unit_scores(criterion, model)
    for group in groups_of(model):
        rows = table[(table.block == group.block) & (table.family == group.family)]
        assert rows.score.tolist() == scores[group.block, group.family].tolist()
        assert rows.unit.tolist() == list(range(group.n_units))
        assert set(rows.cost_params) == {group.cost_params}


def test_a_table_by_name() -> None:
    model = tiny_sam()
    assert scores_frame("magnitude", model).equals(scores_frame(mp.get_criterion("magnitude")(), model))
    first, second = (scores_frame("random", model, seed=seed) for seed in (1, 2))
    assert not first.equals(second)
    assert len(scores_frame(LAMPImportance(), model, 24)) == TINY.depth * (4 + 4)
    with pytest.raises(RegistryError, match="unknown method 'magnitud': did you mean 'magnitude'"):
        scores_frame("magnitud", model)
    with pytest.raises(CriterionError, match="'zero' needs statistics: collect them with"):
        scores_frame("zero", model)
    with pytest.raises(CriterionError, match="'magnitude' is no criterion: expected a Criterion object, as build_crit"):
        unit_scores("magnitude", model)  # type: ignore[arg-type]


def test_masks_do_what_removal_does() -> None:
    model = tiny_sam()
    plan = make_plan(model, "h50_m70")
    masks = parameter_masks(model, plan)
    names = {name for block in blocks_of(model) for name in block.layer_names.values()}
    assert {name.rpartition(".")[0] for name in masks} == names
    gone = sum(int((mask == 0).sum()) for mask in masks.values())
    assert gone == mp.count(model).params - mp.count(model, plan).params
    images, boxes, _ = tiny_batch()
    small = mp.prune(model, plan)
    with torch.no_grad():
        expected = low_res_logits(small, images, boxes)
    for name, mask in masks.items():
        layer, _, parameter = name.rpartition(".")
        torch_prune.custom_from_mask(model.get_submodule(layer), parameter, mask)
    with torch.no_grad():
        torch.testing.assert_close(low_res_logits(model, images, boxes), expected, atol=1e-5, rtol=1e-4)


def test_masks_of_three_input_layers() -> None:
    transformers: Any = pytest.importorskip("transformers")
    config = transformers.ViTConfig(
        image_size=48, patch_size=8, hidden_size=24, num_hidden_layers=2, num_attention_heads=4, intermediate_size=48
    )
    model: nn.Module = transformers.ViTModel(config).eval()
    plan = make_plan(model, "h50_m50", protect=0)
    masks = parameter_masks(model, plan)
    kept = [int(masks[f"layers.0.attention.{role}_proj.weight"].sum()) for role in "qkv"]
    assert kept == [6 * 24 * len(plan.blocks[0].keep_heads)] * 3
    images = tiny_batch()[0]
    with torch.no_grad():
        expected = embed(mp.prune(model, plan), images)
        for name, mask in masks.items():
            model.get_parameter(name).mul_(mask)
        torch.testing.assert_close(embed(model, images), expected, atol=1e-5, rtol=1e-4)
