"""Blocks that differ: budget, cost, cut and calibration read each block's own sizes (METHOD section 13)."""

from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch
from tiny_samples import TinySamples
from torch import nn
from torch.utils.flop_counter import FlopCounterMode
from unequal import UnequalFamily, unequal

import medcore_prune as mp
from medcore_prune._support.errors import SurgeryError
from medcore_prune.calibration.sums import Accumulator
from medcore_prune.evaluation.memory import measured
from medcore_prune.models import families
from medcore_prune.models.families import blocks_of, register_family
from medcore_prune.models.family import Block
from medcore_prune.models.losses import plain_loss
from medcore_prune.models.macs import macs_of
from medcore_prune.models.protocol import input_logits, low_res_logits

LEVEL = "h50_m40"


@pytest.fixture(autouse=True)
def known() -> Iterator[None]:
    family = UnequalFamily()
    register_family(family)
    yield
    families.FAMILIES.unregister(family.name)


def batch() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    masks = torch.zeros(3, 1, 32, 32)
    masks[..., 8:24, 10:20] = 1
    images = torch.rand((3, 3, 32, 32), generator=torch.Generator().manual_seed(1))
    return images, torch.tensor([[10.0, 8.0, 20.0, 24.0]]).repeat(3, 1), masks


def test_each_block_says_its_own_sizes() -> None:
    found = [(b.width, b.tokens_side, b.padded_side, b.num_heads, b.head_dim) for b in blocks_of(unequal())]
    assert found == [(16, 8, 9, 2, 8)] * 2 + [(24, 4, 4, 6, 4)] * 2


def test_rows_of_a_head_lie_as_the_block_says() -> None:
    fine, coarse = blocks_of(unequal())[0], blocks_of(unequal())[2]
    assert fine.head_rows("qkv").tolist() == [list(range(24)), list(range(24, 48))]
    assert coarse.head_rows("qkv")[1].tolist() == [4, 5, 6, 7, 28, 29, 30, 31, 52, 53, 54, 55]
    assert fine.rows("v").tolist() == [list(range(16, 24)), list(range(40, 48))]


def test_uniform_quotas_take_the_same_share_of_every_block() -> None:
    plan = mp.make_plan(unequal(), LEVEL, protect=0)
    assert [(part.heads - len(part.keep_heads)) / part.heads for part in plan.blocks] == [0.5] * 4
    gone = [part.neurons - len(part.keep_neurons) for part in plan.blocks]
    # 40 % of 240 is 96: 19.2 of 48 and 28.8 of 72 to the nearest, and the last one from block 0
    assert sum(gone) == 96
    assert gone == [19, 19, 29, 29]


def test_sensitive_blocks_give_less_of_what_they_have() -> None:
    sensitivity = [1.0, 2.0, 1.0, 2.0]
    plan = mp.make_plan(unequal(), "h0_m30", quotas="sensitivity", sensitivity=sensitivity, tau=1.0, protect=0)
    # 72 by weights 48, 24, 72 and 36
    gone = [part.neurons - len(part.keep_neurons) for part in plan.blocks]
    assert gone == [19, 10, 29, 14]


def test_protection_and_retention_are_each_blocks_own() -> None:
    plan = mp.make_plan(unequal(), "h60_m60", protect=1)
    assert [len(part.keep_heads) for part in plan.blocks] == [1, 1, 1, 6]
    assert plan.blocks[3].untouched


def test_flops_are_those_that_run() -> None:
    model = unequal()
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(batch()[0][:1])
    counts = counter.get_flop_counts()
    _, inside = macs_of(model)
    for block, macs in zip(blocks_of(model), inside, strict=True):
        local = 2 * block.width * 9 * block.tokens  # the depthwise convolution is no unit's
        assert 2 * macs + local == sum(counts[f"Unequal.{block.name}"].values())


@pytest.mark.parametrize("seed", range(3))
def test_removed_is_masked(seed: int) -> None:
    model = unequal(seed)
    plan = mp.plan(model, LEVEL, "random", protect=0, seed=seed)
    assert mp.verify(model, plan, batch()[0]) < 1e-5
    small = mp.prune(model, plan)
    assert mp.count(model, plan).params == mp.count(small).params == sum(p.numel() for p in small.parameters())
    kept = plan.blocks[0].keep_heads
    rows = torch.cat([torch.arange(24) + 24 * head for head in kept])
    assert torch.equal(small.fine[0].attn.qkv.weight, model.fine[0].attn.qkv.weight[rows])


def per_sample(model: nn.Module) -> list[dict[str, torch.Tensor]]:
    images, boxes, masks = batch()
    found = []
    for n in range(len(images)):
        model.zero_grad()
        logits = input_logits(low_res_logits(model, images[n : n + 1], boxes[n : n + 1]), 32)
        plain_loss(logits, masks[n : n + 1]).sum().backward()
        found.append({name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None})
    model.zero_grad()
    return found


def test_fisher_and_slopes_are_those_of_a_plain_loop() -> None:
    model = unequal()
    sums = Accumulator(model, ("fisher", "directional_zero"), ("plain",))
    sums.add(*batch())
    each = per_sample(model)
    for block in blocks_of(model):
        for name in block.layer_names.values():
            for kind in ("weight", "bias"):
                expected = sum(grads[f"{name}.{kind}"].square() for grads in each)
                got = sums.sums["fisher"][f"plain_plain/{name}.{kind}"]
                torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-9)
    for group in mp.groups_of(model):
        weight = group.layer_out.weight.detach()
        slopes = [(grads[f"{group.name_out}.weight"] * weight).sum(0)[group.out_cols].sum(1) for grads in each]
        expected = sum(slope.square() for slope in slopes)
        got = sums.sums["directional_zero"][f"plain_plain/{group.name_out}.units"]
        torch.testing.assert_close(got, expected, rtol=1e-3, atol=1e-9)


def test_inputs_are_summed_over_tokens_that_show_the_image() -> None:
    model, found = unequal(), {}
    sums = Accumulator(model, ("input_squares",), ("plain",))
    sums.add(*batch())
    layer = model.fine[0]
    # the first of 3 x 3 windows has no padding, the last one a row and a column of it
    layer.attn.proj.register_forward_hook(lambda _m, args, _o: found.update(inputs=args[0].view(3, 9, 3, 3, 16)))
    with torch.no_grad():
        model(batch()[0])
    grid = found["inputs"].view(3, 3, 3, 3, 3, 16).transpose(2, 3).reshape(3, 9, 9, 16)[:, :8, :8]
    got = sums.sums["input_squares"]["total/fine.0.attn.proj.squares"]
    torch.testing.assert_close(got, grid.square().sum((0, 1, 2)), rtol=1e-4, atol=1e-6)


def test_memory_is_estimated() -> None:
    model = unequal()
    estimate = mp.calibration_estimate(model, batch_size=3, trial=False)
    with measured() as cost:
        Accumulator(model).add(*batch())
    assert 0 <= estimate.memory_bytes - cost.peak_bytes < 3 * (3 + 1 + 1) * 32 * 32 * 4


def test_a_correction_wants_to_know_what_lies_between_blocks() -> None:
    model = unequal()
    small = mp.prune(model, mp.plan(model, LEVEL, "random", protect=0))
    with pytest.raises(SurgeryError, match=r"what fine\.0 gives is not what its layers add up to.*Block\.mlp_entry"):
        mp.correct(small, model, {"a": TinySamples("a", 2)}, weighting="none", progress=False)


def test_a_correction_wants_to_know_what_lies_behind_a_block(monkeypatch: pytest.MonkeyPatch) -> None:
    model, blocks = unequal(), UnequalFamily.blocks

    def with_entry(family: UnequalFamily, shown: nn.Module) -> list[Block]:
        found = blocks(family, shown)
        return [replace(block, mlp_entry=shown.get_submodule(f"{block.name}.norm")) for block in found]

    monkeypatch.setattr(UnequalFamily, "blocks", with_entry)
    small = mp.prune(model, mp.plan(model, LEVEL, "random", protect=0))
    with pytest.raises(SurgeryError, match=r"what fine\.1 gives is not what the next block reads.*Block\.then"):
        mp.correct(small, model, {"a": TinySamples("a", 2)}, weighting="none", progress=False)
