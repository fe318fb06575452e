"""Values fitted with `proj`: pooling, the closed form, and what a correction with them gives."""

import pytest
import torch
from tiny import tiny_batch, tiny_sam
from tiny_samples import TinySamples
from torch import Tensor, nn

import medcore_prune as mp
from medcore_prune.correction.head_values import (
    Factors,
    as_one_layer,
    factors_of,
    fit_factors,
    pooled_inputs,
    worth_fitting,
    write_factors,
)
from medcore_prune.correction.least_squares import NormalEquations
from medcore_prune.correction.streams import first_tokens, observe
from medcore_prune.models.families import blocks_of
from medcore_prune.models.family import Block
from medcore_prune.pruning.planning import make_plan

TEACHER = tiny_sam()
FEW = make_plan(TEACHER, "h84_m50", protect=1)


def cut() -> nn.Module:
    return mp.prune(TEACHER, FEW)


@pytest.mark.parametrize("model", [TEACHER, cut()], ids=["dense", "cut"])
@pytest.mark.parametrize("index", [0, 1], ids=["windows", "global"])
@torch.no_grad()
def test_the_attention_is_a_linear_layer_of_what_it_pools(model: nn.Module, index: int) -> None:
    block = blocks_of(model)[index]
    tokens = first_tokens(model, tiny_batch(2)[0])
    pooled = pooled_inputs(model, block, tokens)
    assert pooled.shape == (2, 6, 6, block.num_heads, 24)
    expected = observe(model, block, tokens, "proj").output
    got = as_one_layer(block)(pooled.flatten(3).double())
    torch.testing.assert_close(got.float(), expected, rtol=1e-4, atol=1e-4)
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


def sums(z: Tensor, t: Tensor) -> NormalEquations:
    equations = NormalEquations(nn.Linear(z.shape[1], t.shape[1]).double(), bias=True)
    equations.add(z, t)
    return equations


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_pooled_inputs_that_are_all_zero_leave_what_the_heads_give() -> None:
    old = [Factors(random(6, 2, seed=head), random(2, 5, seed=9 + head)) for head in range(2)]
    found, constant = fit_factors(sums(torch.zeros(20, 12), torch.full((20, 5), 3.0)), old, 1e-3)
    for one, other in zip(found, old, strict=True):
        torch.testing.assert_close(one.product, other.product)
    torch.testing.assert_close(constant, torch.full((5,), 3.0, dtype=torch.float64))


def test_factors_that_made_the_targets_are_found_again() -> None:
    z = random(400, 12)
    truth = [Factors(random(6, 2, seed=head), random(2, 5, seed=9 + head)) for head in range(2)]
    t = z @ torch.cat([factors.product for factors in truth]) + 3.0
    start = [Factors(random(6, 2, seed=20 + head), random(2, 5, seed=30 + head)) for head in range(2)]
    found, constant = fit_factors(sums(z, t), start, 1e-12)
    for got, true in zip(found, truth, strict=True):
        torch.testing.assert_close(got.product, true.product, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(constant, torch.full((5,), 3.0, dtype=torch.float64), rtol=1e-4, atol=1e-4)


def test_one_head_has_the_residual_of_the_best_rank() -> None:
    """Eckart-Young in the metric of the inputs: what is lost is the spectrum beyond the rank."""
    z, t = random(300, 6), random(300, 5, seed=1) + random(300, 6) @ random(6, 5, seed=2)
    found, constant = fit_factors(sums(z, t), [Factors(random(6, 2), random(2, 5))], 1e-12)
    centred_z, centred_t = z - z.mean(0), t - t.mean(0)
    fit = centred_z @ torch.linalg.lstsq(centred_z, centred_t).solution
    lost = torch.linalg.svdvals(fit)[2:].square().sum() + (centred_t - fit).square().sum()
    got = (t - z @ found[0].product - constant).square().sum()
    assert float(got) == pytest.approx(float(lost), rel=1e-3)


def test_a_large_ridge_keeps_the_heads() -> None:
    old = [Factors(random(6, 2, seed=head), random(2, 5, seed=9 + head)) for head in range(2)]
    found, _ = fit_factors(sums(random(50, 12, seed=5), random(50, 5, seed=6)), old, 1e9)
    for got, was in zip(found, old, strict=True):
        torch.testing.assert_close(got.product, was.product, rtol=1e-5, atol=1e-5)


@torch.no_grad()
def test_what_is_written_is_what_was_found() -> None:
    model = cut()
    block = blocks_of(model)[0]
    found = [Factors(random(24, 6, seed=head), random(6, 24, seed=9)) for head in range(block.num_heads)]
    constant = random(24, seed=3)
    write_factors(block, found, constant)
    for got, wanted in zip(factors_of(block), found, strict=True):
        torch.testing.assert_close(got.product, wanted.product, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(as_one_layer(block).bias, constant, rtol=1e-5, atol=1e-5)


def correct(small: nn.Module, values: bool) -> mp.CorrectionReport:
    return mp.correct(small, TEACHER, {"a": TinySamples("a", 6)}, values=values, bias=True, progress=False)


def test_values_fit_better_and_touch_nothing_else_of_qkv() -> None:
    plain, fitted, before = cut(), cut(), cut()
    reports = [correct(small, values) for small, values in ((plain, False), (fitted, True))]
    # the first layer has the same inputs and targets in both
    without, with_values = (report.layers[0] for report in reports)
    assert with_values.residual_before == pytest.approx(without.residual_before, rel=1e-5)
    assert with_values.residual_after < 0.95 * without.residual_after
    for dense, old, new in zip(blocks_of(TEACHER), blocks_of(before), blocks_of(fitted), strict=True):
        rows = 2 * old.num_heads * old.head_dim
        qkv, was = new.layers["qkv"], old.layers["qkv"]
        assert torch.equal(qkv.weight[:rows], was.weight[:rows])
        assert torch.equal(qkv.bias[:rows], was.bias[:rows])
        assert torch.equal(qkv.weight[rows:], was.weight[rows:]) != worth_fitting(dense, old)


def test_blocks_with_many_heads_or_all_of_them_keep_their_values() -> None:
    def fitted(level: str) -> list[bool]:
        small = mp.prune(TEACHER, make_plan(TEACHER, level, protect=1))
        pairs: list[tuple[Block, Block]] = list(zip(blocks_of(TEACHER), blocks_of(small), strict=True))
        return [worth_fitting(dense, block) for dense, block in pairs]

    assert fitted("h0_m0") == [False] * 4
    # one of four heads is a pass and more than three of them cost too much
    assert fitted("h84_m0") == [True, True, True, False]


def test_a_failure_gives_values_back(monkeypatch: pytest.MonkeyPatch) -> None:
    small = cut()
    before = {name: value.clone() for name, value in small.state_dict().items()}
    original = NormalEquations.solve

    def fail_in_block_1(self: NormalEquations, ridge: float, name: str) -> object:
        if "blocks.1" in name:
            raise KeyboardInterrupt
        return original(self, ridge, name)

    monkeypatch.setattr(NormalEquations, "solve", fail_in_block_1)
    with pytest.raises(KeyboardInterrupt):
        correct(small, values=True)
    assert all(torch.equal(value, before[name]) for name, value in small.state_dict().items())
