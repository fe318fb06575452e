"""Parameters and FLOPs: what is counted, and against what it is checked."""

import dataclasses

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from medcore_prune._support.errors import BudgetError, SurgeryError
from medcore_prune.models.families import encoder_of, geometry_of
from medcore_prune.models.groups import groups_of
from medcore_prune.models.sam_shape import SamShape
from medcore_prune.models.segment_anything import build_sam
from medcore_prune.pruning.cost import count, unit_costs
from medcore_prune.pruning.planning import make_plan
from medcore_prune.pruning.surgery import prune
from tests.tiny import TINY

WHOLE_WINDOWS = dataclasses.replace(TINY, window=3)  # 6 x 6 tokens, nothing to pad


def measured_flops(model: nn.Module) -> int:
    side = geometry_of(model).image_size
    with FlopCounterMode(display=False) as counter:
        encoder_of(model)(torch.empty(1, 3, side, side, device="meta"))
    return counter.get_total_flops()


@pytest.mark.parametrize("shape", [TINY, WHOLE_WINDOWS, "pocket"])
@pytest.mark.parametrize("level", [None, "h50_m70", "h84_m95"])
def test_full_is_what_torch_counts(shape: SamShape | str, level: str | None) -> None:
    model = build_sam(shape, device="meta")
    plan = None if level is None else make_plan(model, level)
    left = model if plan is None else prune(model, plan)
    assert count(model, plan, "full").flops == measured_flops(left)


def test_full_without_relative_positions() -> None:
    model = build_sam(TINY, device="meta")
    for block in model.image_encoder.blocks:
        block.attn.use_rel_pos = False
    assert count(model, convention="full").flops == measured_flops(model)


def test_sam_vit_b_at_1024_px() -> None:
    model = build_sam("vit_b", device="meta")
    assert round(count(model, convention="full").flops / 1e9, 2) == 972.08
    assert count(model, convention="full").flops == measured_flops(model)
    assert round(count(model).flops / 1e9, 3) == 926.505


@pytest.mark.parametrize("convention", ["paper", "full"])
def test_a_plan_costs_what_the_pruned_model_costs(convention: str) -> None:
    model = build_sam(TINY, device="meta")
    plan = make_plan(model, "h50_m70")
    assert count(model, plan, convention) == count(prune(model, plan), convention=convention)


def test_parameters_are_those_of_the_encoder() -> None:
    model = build_sam(TINY, device="meta")
    cost = count(model)
    assert cost.params == sum(parameter.numel() for parameter in model.image_encoder.parameters())
    inside = sum(parameter.numel() for parameter in model.image_encoder.blocks.parameters())
    assert sum(block.params for block in cost.per_block) == inside
    assert count(model.image_encoder) == cost


def test_paper_count_of_the_tiny_shape_by_hand() -> None:
    # 36 tokens of width 24, 4 heads of 6, 96 neurons; windows of 16 tokens in blocks 0 and 2
    patch, mlp, linear = 36 * 24 * 3 * 64, 2 * 36 * 24 * 96, 4 * 36 * 24 * 24
    windowed, everywhere = 2 * 36 * 16 * 24, 2 * 36 * 36 * 24
    macs = patch + 4 * (mlp + linear) + 2 * windowed + 2 * everywhere
    cost = count(build_sam(TINY, device="meta"))
    assert cost.flops == 2 * macs
    assert [block.flops for block in cost.per_block[:2]] == [
        2 * (mlp + linear + windowed),
        2 * (mlp + linear + everywhere),
    ]


def test_unit_costs_add_up_to_the_blocks() -> None:
    model = build_sam("vit_b", device="meta")
    groups = groups_of(model, mlp_group_size=16)
    flops = unit_costs(model, groups, "flops")
    assert flops[2, "heads"] / 1e9 == pytest.approx(5.905, abs=1e-3)
    assert flops[0, "heads"] / 1e9 == pytest.approx(1.816, abs=1e-3)
    for block in count(model).per_block[:3]:
        assert block.flops == 12 * flops[block.block, "heads"] + 192 * flops[block.block, "neurons"]
    params = unit_costs(model, groups)
    assert params[0, "heads"] == 3 * 64 * 769 + 64 * 768
    assert params[0, "neurons"] == 16 * (768 + 1 + 768)


def test_shares_removed() -> None:
    model = build_sam(TINY, device="meta")
    dense, small = count(model), count(model, make_plan(model, "h50_m50"))
    assert small.params_removed(dense) == pytest.approx((dense.params - small.params) / dense.params)
    assert small.flops_removed(dense) == pytest.approx((dense.flops - small.flops) / dense.flops)
    assert dense.flops_removed(dense) == 0
    assert (dense.params_m, dense.flops_g) == (dense.params / 1e6, dense.flops / 1e9)


def test_conventions_do_not_mix() -> None:
    model = build_sam(TINY, device="meta")
    with pytest.raises(BudgetError, match="'full' and as 'paper' do not compare"):
        count(model, convention="full").flops_removed(count(model))
    with pytest.raises(BudgetError, match="unknown FLOPs convention 'fvcore': expected one of paper, full"):
        count(model, convention="fvcore")
    with pytest.raises(BudgetError, match="unknown cost 'joules': expected one of params, flops"):
        unit_costs(model, groups_of(model), "joules")


def test_a_plan_for_another_model_is_refused() -> None:
    with pytest.raises(SurgeryError, match="12 blocks, the model has 4"):
        count(build_sam(TINY, device="meta"), make_plan(build_sam("pocket", device="meta"), "h50_m70"))
