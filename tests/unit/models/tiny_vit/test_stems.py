"""Tokens of a stem that are kept: the same numbers, of the right image and the right weights, within the limit."""

import copy

import pytest
import torch
from lite import lite_batch, tiny_lite
from tiny import tiny_batch, tiny_sam
from tiny_samples import TinySamples
from torch import nn

import medcore_prune as mp
from medcore_prune.correction.streams import first_tokens
from medcore_prune.models.protocol import embed
from medcore_prune.models.switches import set_training
from medcore_prune.models.tiny_vit.stems import stem_tokens

IMAGES = lite_batch(3)[0]
TOKENS_BYTES = 16 * 16 * 16 * 4


def counted(model: nn.Module, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many images went through the stem each time that it ran."""
    runs: list[int] = []
    stem = model.image_encoder.stem

    def counting(images: torch.Tensor) -> torch.Tensor:
        runs.append(len(images))
        return stem(images)

    monkeypatch.setattr(model.image_encoder, "stem", counting)
    return runs


@torch.no_grad()
def test_an_image_runs_once_whatever_is_beside_it(monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny_lite()
    expected, runs = embed(model, IMAGES), counted(model, monkeypatch)
    with mp.kept_stems() as stems:
        torch.testing.assert_close(embed(model, IMAGES), expected, rtol=1e-5, atol=1e-6)
        again = embed(model, IMAGES[1:])
        assert torch.equal(again, embed(model, IMAGES)[1:]) or torch.allclose(again, expected[1:], atol=1e-6)
    assert runs == [1, 1, 1]
    assert stems.found == 5
    assert stems.held_bytes == 3 * TOKENS_BYTES
    embed(model, IMAGES)
    assert runs[3:] == [3]


@torch.no_grad()
def test_a_cut_model_shares_them_and_one_of_other_weights_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny_lite()
    small, other = mp.prune(model, mp.plan(model, "h50_m50", "random", protect=0)), tiny_lite(1)
    moved = copy.deepcopy(model)
    moved.image_encoder.layers[0].blocks[0].conv1.bn.running_mean.add_(0.5)
    expected = [embed(each, IMAGES) for each in (small, other, moved)]
    with mp.kept_stems() as stems:
        embed(model, IMAGES)
        assert torch.allclose(embed(small, IMAGES), expected[0], atol=1e-6)
        assert stems.found == 3
        assert torch.allclose(embed(other, IMAGES), expected[1], atol=1e-6)
        assert torch.allclose(embed(moved, IMAGES), expected[2], atol=1e-6)
        assert stems.found == 3
        changed = IMAGES.clone()
        changed[0, 0, 0, 0] += 1e-3
        embed(model, changed)
        assert stems.found == 5


@torch.no_grad()
def test_memory_has_a_limit() -> None:
    model = tiny_lite()
    expected = embed(model, IMAGES)
    with mp.kept_stems(limit_gb=2 * TOKENS_BYTES / 1e9) as stems:
        for _ in range(4):
            assert torch.allclose(embed(model, IMAGES), expected, atol=1e-6)
            assert stems.held_bytes == 2 * TOKENS_BYTES
        # read again and again, some are found, and the newest always is
        found = stems.found
        assert 0 < found <= 3 * 2
        embed(model, IMAGES[2:])
        assert stems.found == found + 1


@torch.no_grad()
def test_those_of_another_number_type_are_others() -> None:
    model = tiny_lite()
    expected = embed(model, IMAGES)
    with mp.kept_stems() as stems:
        with torch.autocast("cpu", torch.bfloat16):
            coarse = embed(model, IMAGES)
        assert torch.allclose(embed(model, IMAGES), expected, atol=1e-6)
        assert stems.found == 0
    assert not torch.allclose(coarse.float(), expected, atol=1e-6)


def test_a_stem_at_rest_is_kept_while_the_rest_is_trained(monkeypatch: pytest.MonkeyPatch) -> None:
    model, teacher = tiny_lite(), tiny_lite()
    set_training(model)
    runs = counted(model, monkeypatch)
    with mp.kept_stems():
        with torch.no_grad():
            expected = embed(teacher, IMAGES)
        features = embed(model, IMAGES)
    assert runs == []
    assert torch.allclose(features, expected, atol=1e-6)
    features.sum().backward()
    assert model.image_encoder.layers[1].blocks[0].attn.qkv.weight.grad is not None


def test_a_stem_that_is_trained_is_not_kept() -> None:
    model = tiny_lite()
    model.image_encoder.layers[0].requires_grad_(True)
    with mp.kept_stems() as stems:
        embed(model, IMAGES).sum().backward()
        assert model.image_encoder.layers[0].blocks[0].conv1.c.weight.grad is not None
        assert stems.held_bytes == 0
        with torch.no_grad():
            assert stem_tokens(model, IMAGES) is not None
    # statistics that move are no constant either
    model.train()
    assert stem_tokens(model, IMAGES) is None


@torch.no_grad()
def test_other_families_have_none() -> None:
    model, images = tiny_sam(), tiny_batch()[0]
    expected = embed(model, images)
    with mp.kept_stems() as stems:
        assert torch.equal(embed(model, images), expected)
    assert stems.held_bytes == 0


@torch.no_grad()
def test_the_first_block_reads_them() -> None:
    model = tiny_lite()
    seen: list[torch.Tensor] = []
    first = model.image_encoder.layers[1].blocks[0]
    handle = first.register_forward_pre_hook(lambda _m, args: seen.append(args[0]))
    embed(model, IMAGES)
    handle.remove()
    assert torch.equal(first_tokens(model, IMAGES), seen[0])


def test_evaluation_and_correction_say_the_same_with_them() -> None:
    model, data = tiny_lite(), {"a": TinySamples("a", 4)}
    small = mp.prune(model, mp.plan(model, "h50_m50", "random", protect=0))
    other = copy.deepcopy(small)
    mp.correct(small, model, data, progress=False)
    expected = mp.evaluate(small, data)
    with mp.kept_stems() as stems:
        mp.correct(other, model, data, progress=False)
        got = mp.evaluate(other, data)
    assert stems.found >= 8
    for (name, one), two in zip(small.named_parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(two, one, rtol=1e-3, atol=1e-4, msg=name)
    torch.testing.assert_close(torch.tensor(got.dice), torch.tensor(expected.dice), atol=1e-3, rtol=0)
