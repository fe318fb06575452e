import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny import tiny_batch, tiny_sam
from torch import nn

from medcore_prune._support.errors import SurgeryError
from medcore_prune.models.families import blocks_of
from medcore_prune.pruning.plan import BlockPlan, Plan
from medcore_prune.pruning.surgery import masked, prune, verify


def plan_of(model: nn.Module, heads: list[list[int]], neurons: list[list[int]]) -> Plan:
    """A plan that keeps the given heads and neurons, block by block."""
    parts = [
        BlockPlan(block=b.index, heads=b.num_heads, neurons=b.neurons, keep_heads=tuple(h), keep_neurons=tuple(n))
        for b, h, n in zip(blocks_of(model), heads, neurons, strict=True)
    ]
    return Plan(level="h0_m0", blocks=tuple(parts), criterion="test", quotas="uniform", protected=(), notes={})


def random_plan(model: nn.Module, seed: int) -> Plan:
    rng = torch.Generator().manual_seed(seed)

    def keep(size: int) -> list[int]:
        count = int(torch.randint(1, size + 1, (1,), generator=rng))
        return sorted(torch.randperm(size, generator=rng)[:count].tolist())

    blocks = blocks_of(model)
    return plan_of(model, [keep(b.num_heads) for b in blocks], [keep(b.neurons) for b in blocks])


@given(seed=st.integers(0, 10_000))
@settings(max_examples=15, deadline=None)
def test_masked_equals_removed(seed: int) -> None:
    model = tiny_sam()
    assert verify(model, random_plan(model, seed), tiny_batch(2)[0]) < 1e-5


@torch.no_grad()
def test_removing_is_setting_the_group_to_zero() -> None:
    # written out: the head's columns of proj and the neuron's columns of lin2 are zeroed in a copy
    model, images = tiny_sam(), tiny_batch(2)[0]
    plan = plan_of(model, [[0, 2, 3]] * 4, [list(range(5, 96))] * 4)
    zeroed = copy.deepcopy(model)
    for block in zeroed.image_encoder.blocks:
        block.attn.proj.weight[:, 6:12] = 0.0
        block.mlp.lin2.weight[:, :5] = 0.0
    expected = zeroed.image_encoder(images)
    torch.testing.assert_close(prune(model, plan).image_encoder(images), expected, rtol=1e-5, atol=1e-5)
    with masked(model, plan):
        torch.testing.assert_close(model.image_encoder(images), expected, rtol=1e-5, atol=1e-5)


def test_kept_weights_are_untouched_and_shapes_shrink() -> None:
    model = tiny_sam()
    before = copy.deepcopy(model.state_dict())
    small = prune(model, plan_of(model, [[1, 3]] * 4, [[0, 7]] * 4))
    attention = small.image_encoder.blocks[0].attn
    assert attention.num_heads == 2
    assert attention.qkv.weight.shape == (36, 24)
    assert attention.proj.weight.shape == (24, 12)
    rows = [*range(6, 12), *range(18, 24)]
    expected = before["image_encoder.blocks.0.attn.qkv.weight"][
        [*rows, *(r + 24 for r in rows), *(r + 48 for r in rows)]
    ]
    assert torch.equal(attention.qkv.weight, expected)
    assert torch.equal(
        small.image_encoder.blocks[2].mlp.lin2.weight, before["image_encoder.blocks.2.mlp.lin2.weight"][:, [0, 7]]
    )
    assert torch.equal(attention.rel_pos_h, before["image_encoder.blocks.0.attn.rel_pos_h"])
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


@torch.no_grad()
def test_nothing_to_remove_changes_nothing() -> None:
    model, images = tiny_sam(), tiny_batch(1)[0]
    plan = plan_of(model, [[0, 1, 2, 3]] * 4, [list(range(96))] * 4)
    expected = model.image_encoder(images)
    assert torch.equal(prune(model, plan).image_encoder(images), expected)
    with masked(model, plan):
        assert torch.equal(model.image_encoder(images), expected)


def test_masking_is_undone_even_after_an_error() -> None:
    model, images = tiny_sam(), tiny_batch(1)[0]
    expected = model.image_encoder(images)
    with pytest.raises(ZeroDivisionError), masked(model, random_plan(model, 1)):
        raise ZeroDivisionError
    assert torch.equal(model.image_encoder(images), expected)
    assert not any(module._forward_pre_hooks for module in model.modules())


@torch.no_grad()
def test_pruning_twice_equals_pruning_once() -> None:
    model, images = tiny_sam(), tiny_batch(2)[0]
    once = prune(model, plan_of(model, [[2]] * 4, [[3, 50]] * 4))
    half = prune(model, plan_of(model, [[0, 2]] * 4, [[3, 9, 50]] * 4))
    assert verify(half, plan_of(half, [[1]] * 4, [[0, 2]] * 4), images) < 1e-5
    twice = prune(half, plan_of(half, [[1]] * 4, [[0, 2]] * 4), inplace=True)
    assert twice is half
    assert torch.equal(twice.image_encoder(images), once.image_encoder(images))


def test_a_plan_for_another_model_is_refused_and_nothing_changes() -> None:
    model = tiny_sam()
    small = prune(model, plan_of(model, [[0, 1]] * 4, [[1, 2]] * 4))
    plan = plan_of(model, [[0]] * 4, [[1]] * 4)
    before = copy.deepcopy(small.state_dict())
    with pytest.raises(SurgeryError, match="block 0 has 2 heads and 2 neurons, expected 4 and 96"):
        prune(small, plan, inplace=True)
    with pytest.raises(SurgeryError, match="for 2 blocks, the model has 4"):
        prune(model, Plan(**{**plan.__dict__, "blocks": plan.blocks[:2]}))
    assert all(torch.equal(value, before[name]) for name, value in small.state_dict().items())


@torch.no_grad()
def test_the_whole_sam_still_predicts_after_pruning() -> None:
    from medcore_prune.models.protocol import low_res_logits

    model = tiny_sam()
    images, boxes, _ = tiny_batch(2)
    plan = random_plan(model, 3)
    with masked(model, plan):
        expected = low_res_logits(model, images, boxes)
    torch.testing.assert_close(low_res_logits(prune(model, plan), images, boxes), expected, rtol=1e-4, atol=1e-5)


def test_frozen_layers_stay_frozen() -> None:
    model = tiny_sam()
    model.image_encoder.requires_grad_(False)  # type: ignore[union-attr,operator]
    pruned = prune(model, random_plan(model, 3))
    flags = {name: parameter.requires_grad for name, parameter in model.named_parameters()}
    assert {name: parameter.requires_grad for name, parameter in pruned.named_parameters()} == flags
