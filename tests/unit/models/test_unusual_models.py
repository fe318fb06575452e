"""Models that are nearly a SAM: what works on them, and what is refused before anything goes wrong."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from tiny import tiny_sam
from tiny_samples import TinySamples
from torch import nn

import medcore_prune as mp
from medcore_prune._support.errors import CheckpointError, SurgeryError
from medcore_prune.models.families import blocks_of

IMAGES = TinySamples("a", 2)


def without_qkv_bias(seed: int) -> nn.Module:
    model = tiny_sam(seed)
    for block in blocks_of(model):
        block.layers["qkv"].bias = None
    return model


@pytest.mark.parametrize("method", [name for name in mp.available_baselines() if name != "disturbed_taylor"])
def test_layers_without_a_bias(method: str, tmp_path: Path) -> None:
    model, base = without_qkv_bias(0), without_qkv_bias(1)
    needs = mp.get_baseline(method).needs
    statistics = mp.calibrate(model, base, IMAGES, 2, needs, cache_dir=tmp_path, progress=False) if needs else None
    plan = mp.plan(model, "h50_m50", method, statistics=statistics, reference=base, data=IMAGES)
    assert mp.verify(model, plan, torch.rand(1, 3, 48, 48)) < 1e-5


def other_norm(model: nn.Module) -> None:
    model.get_submodule("image_encoder.blocks.0.norm1").eps = 1e-2  # type: ignore[assignment]


def other_activation(model: nn.Module) -> None:
    model.get_submodule("image_encoder.blocks.0.mlp").act = nn.ReLU()  # type: ignore[assignment]


def other_decoder_heads(model: nn.Module) -> None:
    model.get_submodule("mask_decoder.transformer.layers.1.self_attn").num_heads = 4  # type: ignore[assignment]


def other_scale(model: nn.Module) -> None:
    model.get_submodule("image_encoder.blocks.1.attn").scale = 0.5  # type: ignore[assignment]


def no_bias(model: nn.Module) -> None:
    blocks_of(model)[0].layers["qkv"].bias = None


def no_positions(model: nn.Module) -> None:
    model.get_submodule("image_encoder").pos_embed = None  # type: ignore[assignment]


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (other_norm, r"blocks\.0\.norm1 is LayerNorm eps=0\.01, .* has LayerNorm eps=1e-06"),
        (other_activation, r"blocks\.0\.mlp\.act is ReLU.* has GELU"),
        (no_bias, r"blocks\.0\.attn\.qkv is Linear with weight, .* has Linear with bias, weight"),
        (
            other_decoder_heads,
            r"transformer\.layers\.1\.self_attn is Attention num_heads=4, .* has Attention num_heads=2",
        ),
        (other_scale, r"blocks\.1\.attn is Attention scale=0\.5, .* has Attention scale="),
        (no_positions, "image_encoder is ImageEncoderViT with no parameters.* has ImageEncoderViT with pos_embed"),
    ],
)
def test_what_would_load_as_another_model_is_not_saved(
    change: Callable[[nn.Module], None], named: str, tmp_path: Path
) -> None:
    model = tiny_sam()
    change(model)
    with pytest.raises(CheckpointError, match=f"cannot be saved: .*{named}"):
        mp.save(model, tmp_path / "a.safetensors")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("attention", ["segment-anything", "sdpa"])
def test_how_a_model_computes_does_not_keep_it_from_being_saved(attention: str, tmp_path: Path) -> None:
    model = mp.set_checkpointing(mp.set_attention(tiny_sam(), attention))
    mp.save(mp.prune(model, mp.make_plan(model, "h50_m50")), tmp_path / "a.safetensors")
    assert mp.load(tmp_path / "a.safetensors")


def tied_layers(model: nn.Module) -> None:
    first, second = (model.get_submodule(f"image_encoder.blocks.{block}") for block in (0, 1))
    second.mlp = first.mlp


def tied_weights(model: nn.Module) -> None:
    first, second = (block.layers["lin1"] for block in blocks_of(model)[:2])
    second.weight = first.weight


def weight_norm(model: nn.Module) -> None:
    nn.utils.parametrizations.weight_norm(blocks_of(model)[0].layers["lin1"])


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (tied_layers, r"blocks\.0\.mlp\.lin1\.weight and .*blocks\.1\.mlp\.lin1\.weight are one tensor"),
        (tied_weights, r"blocks\.0\.mlp\.lin1\.weight and .*blocks\.1\.mlp\.lin1\.weight are one tensor"),
        (weight_norm, r"the weight of image_encoder\.blocks\.0\.mlp\.lin1 is computed from others"),
    ],
)
def test_weights_that_are_not_a_layers_own_are_not_cut(change: Callable[[nn.Module], None], named: str) -> None:
    model = tiny_sam()
    plan = mp.make_plan(model, "h50_m50")
    change(model)
    with pytest.raises(SurgeryError, match=named):
        mp.prune(model, plan)


def test_a_masked_model_leaves_no_statistics_behind(tmp_path: Path) -> None:
    model = tiny_sam()
    with mp.masked(model, mp.make_plan(model, "h50_m50")), pytest.raises(SurgeryError, match="masked model"):
        mp.calibrate(model, data=IMAGES, samples=1, cache_dir=tmp_path, progress=False)
    assert not list(tmp_path.iterdir())


def test_a_masked_model_is_not_cut_saved_or_recovered(tmp_path: Path) -> None:
    model = tiny_sam()
    plan = mp.make_plan(model, "h50_m50")
    store = mp.RecoveryStore(tmp_path)
    split = mp.data.split(TinySamples("a", 4))
    with mp.masked(model, plan):
        for takes in (
            lambda: mp.prune(model, plan),
            lambda: mp.save(model, tmp_path / "a.safetensors"),
            lambda: store.recover(model, tiny_sam(), split, mp.RecoverySettings(steps=1), progress=False),
        ):
            with pytest.raises(SurgeryError, match="leave the `masked` block"):
                takes()
    assert not list(tmp_path.rglob("*.safetensors"))
