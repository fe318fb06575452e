"""The fused attention is segment-anything's: values, gradients, pruned and copied models, and what it holds."""

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny import TINY, tiny_batch, tiny_sam
from torch import Tensor, nn

import medcore_prune as mp
from medcore_prune._support.errors import MedcorePruneError
from medcore_prune.calibration.sums import Accumulator
from medcore_prune.evaluation.memory import measured
from medcore_prune.models import sdpa
from medcore_prune.models.families import blocks_of, encoder_of
from medcore_prune.models.sam_shape import SamShape
from medcore_prune.models.segment_anything import SegmentAnythingFamily, build_sam
from medcore_prune.models.switches import attention_of, set_attention


def uneven(model: nn.Module, keep_heads: tuple[int, ...] = (0, 2, 3)) -> nn.Module:
    """A copy that lacks a head in every block, and keeps but one in the last."""
    kept = [keep_heads] * (TINY.depth - 1) + [(1,)]
    record = mp.make_plan(model, "h0_m0")
    blocks = tuple(
        type(part)(**{**part.__dict__, "keep_heads": heads}) for part, heads in zip(record.blocks, kept, strict=True)
    )
    return mp.prune(model, type(record)(**{**record.__dict__, "blocks": blocks}))


def outputs(model: nn.Module, gradients: bool) -> list[Tensor]:
    """Encoder output, and the gradients of its squares with respect to image and parameters."""
    images = tiny_batch(2)[0].to(next(model.parameters()).dtype).requires_grad_(gradients)
    encoder = encoder_of(model)
    with torch.set_grad_enabled(gradients):
        out = encoder(images)
    wanted = [images, *encoder.parameters()] if gradients else []
    return [out.detach(), *(torch.autograd.grad(out.square().sum(), wanted) if gradients else ())]


def assert_same(model: nn.Module, gradients: bool, tolerance: float) -> None:
    expected = outputs(model, gradients)
    got = outputs(set_attention(copy.deepcopy(model), "sdpa"), gradients)
    for one, other in zip(expected, got, strict=True):
        torch.testing.assert_close(other, one, rtol=0, atol=tolerance * float(one.abs().max()))


@pytest.mark.parametrize("gradients", [False, True])
@pytest.mark.parametrize("pruned", [False, True])
def test_equals_segment_anything(gradients: bool, pruned: bool) -> None:
    model = uneven(tiny_sam()) if pruned else tiny_sam()
    assert_same(model, gradients, 1e-5)
    assert_same(model.double(), gradients, 1e-12)


@pytest.mark.parametrize("gradients", [False, True])
def test_a_few_maps_at_a_time(gradients: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sdpa, "MASK_BYTES", 3 * 36 * 36 * 4)  # three of the eight global maps, seven windowed ones
    assert_same(tiny_sam(), gradients, 1e-5)


def test_position_tables_of_another_size_are_resized_alike() -> None:
    model = tiny_sam()
    # as after loading with another image size, where the global tables were left as they were
    for block in blocks_of(model):
        block.attention.rel_pos_h = nn.Parameter(torch.randn(13, 6, generator=torch.Generator().manual_seed(0)))
    assert_same(model, True, 1e-5)


def test_without_relative_positions() -> None:
    model = tiny_sam()
    for block in blocks_of(model):
        block.attention.use_rel_pos = False
    expected, got = outputs(model, False), outputs(set_attention(model, "sdpa"), False)
    torch.testing.assert_close(got[0], expected[0], rtol=0, atol=1e-5 * float(expected[0].abs().max()))


@given(
    h=st.integers(1, 5), w=st.integers(1, 5), d=st.integers(1, 7), maps=st.integers(1, 4), seed=st.integers(0, 10**6)
)
@settings(max_examples=30, deadline=None)
def test_both_ways_restated(h: int, w: int, d: int, maps: int, seed: int) -> None:
    rng = torch.Generator().manual_seed(seed)
    q, k, v = (torch.randn((maps, h * w, d), generator=rng, dtype=torch.float64) for _ in range(3))
    tables = tuple(torch.randn((side, side, d), generator=rng, dtype=torch.float64) for side in (h, w))
    expected = torch.zeros_like(v)
    for m in range(maps):
        for i in range(h * w):
            logits = torch.stack(
                [
                    0.7 * q[m, i] @ k[m, j] + q[m, i] @ tables[0][i // w, j // w] + q[m, i] @ tables[1][i % w, j % w]
                    for j in range(h * w)
                ]
            )
            expected[m, i] = logits.exp() @ v[m] / logits.exp().sum()
    for way in (sdpa.attend_masked, sdpa.attend_differentiably):
        torch.testing.assert_close(way(q, k, v, tables, 0.7), expected, rtol=1e-9, atol=1e-9)


def test_switch_is_reversible_and_changes_nothing_else() -> None:
    model = tiny_sam()
    before, keys = outputs(model, False)[0], list(model.state_dict())
    assert attention_of(model) == "segment-anything"
    assert set_attention(model, "sdpa") is model
    assert attention_of(model) == attention_of(copy.deepcopy(model)) == attention_of(uneven(model)) == "sdpa"
    assert list(model.state_dict()) == keys
    set_attention(model, "segment-anything")
    assert torch.equal(outputs(model, False)[0], before)
    assert type(blocks_of(model)[0].attention) is SegmentAnythingFamily.attentions["segment-anything"]


def test_masked_equals_physical() -> None:
    model = set_attention(tiny_sam(), "sdpa")
    plan = mp.make_plan(model, "h50_m50")
    assert mp.verify(model, plan, tiny_batch(2)[0]) < 1e-5


def test_fisher_is_the_same() -> None:
    expected, got = Accumulator(tiny_sam()), Accumulator(set_attention(tiny_sam(), "sdpa"))
    for accumulator in (expected, got):
        accumulator.add(*tiny_batch(2))
    for name, value in expected.sums["fisher"].items():
        torch.testing.assert_close(got.sums["fisher"][name], value, rtol=0, atol=1e-4 * float(value.abs().max()))


@pytest.mark.parametrize("gradients", [False, True])
def test_never_holds_all_pairs_of_tokens(gradients: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    shape = SamShape(256, 8, 24, 1, 4, (0,), 4, 16, 2, 32, 16)  # 1024 tokens: four maps of 4 MiB
    monkeypatch.setattr(sdpa, "MASK_BYTES", 4 << 20)
    peaks = {}
    for kind in ("segment-anything", "sdpa"):
        encoder = encoder_of(set_attention(build_sam(shape), kind))
        with torch.set_grad_enabled(gradients), measured() as cost:
            out = encoder(torch.zeros(1, 3, 256, 256))
            if gradients:
                out.sum().backward()
        peaks[kind] = cost.peak_bytes
    assert peaks["segment-anything"] > 2 * (16 << 20)
    # with gradients some nine tensors of 4 x 1024 x (6 + 32 + 32) numbers, 10 MB
    assert peaks["sdpa"] < 16 << 20


def test_load_sam_takes_the_kind() -> None:
    assert attention_of(mp.load_sam(TINY, attention="sdpa")) == "sdpa"
    assert attention_of(mp.load_sam(TINY)) == "segment-anything"
    with pytest.raises(MedcorePruneError, match="unknown attention 'flash': expected one of segment-anything, sdpa"):
        mp.load_sam(TINY, attention="flash")


def test_blocks_that_differ_are_named() -> None:
    model = tiny_sam()
    blocks_of(model)[1].attention.__class__ = sdpa.SdpaAttention
    with pytest.raises(MedcorePruneError, match="the blocks run sdpa and segment-anything"):
        attention_of(model)


def test_a_family_with_one_attention_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SegmentAnythingFamily, "attentions", {})
    with pytest.raises(MedcorePruneError, match="one attention only"):
        set_attention(tiny_sam(), "sdpa")
