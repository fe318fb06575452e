from collections.abc import Callable

import pytest
import torch
import torch_pruning as tp
from tiny import TINY, tiny_sam
from torch import nn

from medcore_prune._support.errors import BudgetError, MedcorePruneError, SurgeryError
from medcore_prune.models.families import blocks_of
from medcore_prune.models.groups import StructuredGroup, UnitRows, groups_of
from medcore_prune.models.segment_anything import build_sam
from medcore_prune.scoring.units import unit_sums


def test_two_groups_a_block_in_order() -> None:
    groups = groups_of(tiny_sam())
    assert [(g.block, g.family) for g in groups] == [(b, f) for b in range(4) for f in ("heads", "neurons")]
    assert [g.n_units for g in groups[:2]] == [4, 96]


def test_a_head_owns_its_rows_of_q_k_and_v() -> None:
    heads = groups_of(tiny_sam())[0]
    # 4 heads of 6 channels: head 1 is channels 6..11 of q, and the same 24 and 48 rows further down
    expected = [*range(6, 12), *range(30, 36), *range(54, 60)]
    assert heads.inputs[0].rows[1].tolist() == expected
    assert heads.out_cols[1].tolist() == list(range(6, 12))


def test_cost_of_a_unit_in_parameters() -> None:
    heads, neurons = groups_of(tiny_sam())[:2]
    assert heads.cost_params == 18 * 24 + 18 + 6 * 24
    assert neurons.cost_params == 24 + 1 + 24


def test_units_cover_every_prunable_parameter_once() -> None:
    model = tiny_sam()
    for group in groups_of(model):
        sums = unit_sums(group, lambda layer, _: (torch.ones_like(layer.weight), torch.ones_like(layer.bias)))
        assert torch.equal(sums, torch.full((group.n_units,), float(group.cost_params)))
        total = sum(p.numel() for p in (*group.inputs[0].layer.parameters(), group.layer_out.weight))
        assert int(sums.sum()) == total


def test_torch_pruning_scores_one_value_a_channel() -> None:
    heads, neurons = groups_of(tiny_sam())[:2]
    importance = tp.importance.GroupMagnitudeImportance(p=2)
    assert importance(heads.tp_group).shape == (24,)
    assert importance(neurons.tp_group).shape == (96,)


def test_building_groups_leaves_gradients_flags_alone() -> None:
    model = tiny_sam().requires_grad_(False)
    _ = [group.tp_group for group in groups_of(model)]
    assert not any(p.requires_grad for p in model.parameters())


def test_meta_model_needs_no_weights() -> None:
    model = build_sam("vit_h", "meta")
    groups = groups_of(model)
    assert len(groups) == 64
    assert groups[0].tp_group[0].idxs == list(range(1280))


def test_mlp_groups_of_several_neurons() -> None:
    neurons = groups_of(tiny_sam(), mlp_group_size=8)[1]
    assert neurons.n_units == 12
    assert neurons.out_cols[1].tolist() == list(range(8, 16))
    with pytest.raises(BudgetError, match="mlp_group_size 7 does not divide the 96 neurons"):
        groups_of(tiny_sam(), mlp_group_size=7)


def test_indices_beyond_the_layer_are_refused() -> None:
    group = groups_of(tiny_sam())[0]
    with pytest.raises(SurgeryError, match=r"only 72 rows of image_encoder\.blocks\.0\.attn\.qkv"):
        UnitRows(group.inputs[0].layer, group.inputs[0].name, group.inputs[0].rows + 60)
    with pytest.raises(SurgeryError, match="twice"):
        StructuredGroup(**{**group.__dict__, "out_cols": group.out_cols * 0})


def test_windowed_and_global_blocks() -> None:
    assert [b.window for b in blocks_of(tiny_sam())] == [4, 0, 4, 0]
    assert TINY.global_blocks == (1, 3)


def test_unknown_model_family() -> None:
    with pytest.raises(MedcorePruneError, match="Linear belongs to no known model family: expected one of"):
        groups_of(nn.Linear(2, 2))


@pytest.mark.parametrize("wrap", [nn.DataParallel, torch.compile])
def test_a_wrapped_model_is_pointed_at(wrap: Callable[[nn.Module], nn.Module]) -> None:
    wrapped, model = wrap(tiny_sam()), tiny_sam()
    with pytest.raises(MedcorePruneError, match=r"its part \.(module|_orig_mod) does, give that$") as caught:
        groups_of(wrapped)
    name = str(caught.value).rpartition("its part .")[2].partition(" ")[0]
    assert len(groups_of(wrapped.get_submodule(name))) == len(groups_of(model))


def test_encoder_alone_is_a_model_too() -> None:
    names = [g.inputs[0].name for g in groups_of(tiny_sam().image_encoder)]
    assert names[0] == "blocks.0.attn.qkv"
