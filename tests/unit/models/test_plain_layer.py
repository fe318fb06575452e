"""Layers with adapters, which would be cut without their adapter, are refused wherever a model comes in."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny import tiny_sam
from tiny_samples import TinySamples
from torch import Tensor, nn

import medcore_prune as mp
from medcore_prune._support.errors import SurgeryError
from medcore_prune.models.families import blocks_of


class LowRank(nn.Linear):
    """A linear layer that adds x A B, as loralib's."""

    def __init__(self, whole: nn.Linear, rank: int = 2) -> None:
        super().__init__(whole.in_features, whole.out_features)
        self.load_state_dict(whole.state_dict())
        self.lora_A = nn.Parameter(torch.randn(whole.in_features, rank))
        self.lora_B = nn.Parameter(torch.randn(rank, whole.out_features))

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) + x @ self.lora_A @ self.lora_B


class Around(nn.Module):
    """A module that holds the linear layer, as SAMed's for queries and values."""

    def __init__(self, whole: nn.Linear) -> None:
        super().__init__()
        self.qkv = whole
        self.linear_a_q, self.linear_b_q = nn.Linear(whole.in_features, 2), nn.Linear(2, whole.out_features)

    def forward(self, x: Tensor) -> Tensor:
        return self.qkv(x) + self.linear_b_q(self.linear_a_q(x))


class Pretending(Around):
    """The same with the layer's sizes and weight, as peft's."""

    @property
    def weight(self) -> Tensor:
        return self.qkv.weight

    @property
    def out_features(self) -> int:
        return self.qkv.out_features


def with_dropout(whole: nn.Linear) -> nn.Module:
    whole.add_module("lora_dropout", nn.Dropout())
    return whole


ADAPTERS: dict[str, tuple[Callable[[nn.Linear], nn.Module], str]] = {
    "subclass": (LowRank, "has lora_A, lora_B beside weight and bias"),
    "part": (with_dropout, "has lora_dropout beside weight and bias"),
    "wrapper": (Around, "is Around, no nn.Linear"),
    "wrapper like a layer": (Pretending, "is Pretending, no nn.Linear"),
}


def timm_vit() -> nn.Module:
    timm: Any = pytest.importorskip("timm")
    model: nn.Module = timm.create_model("vit_base_patch16_224", img_size=48, embed_dim=24, depth=2, num_heads=4)
    return model


def transformers_vit() -> nn.Module:
    transformers: Any = pytest.importorskip("transformers")
    config = transformers.ViTConfig(hidden_size=24, num_hidden_layers=2, num_attention_heads=4, intermediate_size=96)
    model: nn.Module = transformers.ViTModel(config)
    return model


def transformers_sam() -> nn.Module:
    pytest.importorskip("transformers")
    from unit.models.test_transformers_sam import as_transformers

    return as_transformers(tiny_sam())


def replaced(model: nn.Module, role: str, adapter: str) -> str:
    """Give one layer of the second block an adapter; returns what the refusal says."""
    make, says = ADAPTERS[adapter]
    block = blocks_of(model)[1]
    name = block.layer_names[role]
    model.set_submodule(name, make(block.layers[role]))
    return f"{name} {says}: merge an adapter into its weight first .*merge_and_unload"


@pytest.mark.parametrize("adapter", ADAPTERS)
@pytest.mark.parametrize("build", [tiny_sam, transformers_sam, transformers_vit, timm_vit])
def test_every_layer_of_every_family_is_looked_at(build: Callable[[], nn.Module], adapter: str) -> None:
    for role in blocks_of(model := build())[0].layers:
        says = replaced(model, role, adapter)
        with pytest.raises(SurgeryError, match=says):
            mp.groups_of(model)
        model = build()


@pytest.mark.parametrize("adapter", ADAPTERS)
def test_a_model_with_an_adapter_comes_in_nowhere(adapter: str, tmp_path: Path) -> None:
    model, images = tiny_sam(), {"a": TinySamples("a", 2)}
    plan = mp.make_plan(model, "h50_m50")
    says = replaced(model, "qkv", adapter)

    def mask() -> None:
        with mp.masked(model, plan):
            pass

    def trace() -> None:
        with mp.traceable(model):
            pass

    for takes in (
        lambda: mp.prune(model, plan),
        lambda: mp.prune(model, plan, inplace=True),
        mask,
        trace,
        lambda: mp.calibrate(model, data=images, samples=1, cache_dir=tmp_path, progress=False),
        lambda: mp.calibrate(tiny_sam(), model, images, samples=1, cache_dir=tmp_path, progress=False),
        lambda: mp.plan(model, "h50_m50", "magnitude"),
        lambda: mp.calibrate(model, tiny_sam(), images, samples=1, cache_dir=tmp_path, progress=False),
        lambda: mp.automatic_plan(model, "params=50%", "magnitude", data=images),
        lambda: mp.correct(tiny_sam(), model, images, progress=False),
        lambda: mp.count(model),
        lambda: mp.save(model, tmp_path / "a.safetensors"),
    ):
        with pytest.raises(mp.MedcorePruneError, match=says):
            takes()
    assert not list(tmp_path.rglob("*.*"))


def test_a_merged_adapter_leaves_a_layer_that_is_cut() -> None:
    model = tiny_sam()
    replaced(model, "qkv", "subclass")
    name = "image_encoder.blocks.1.attn.qkv"
    adapted: Any = model.get_submodule(name)
    merged = nn.Linear(adapted.in_features, adapted.out_features)
    merged.weight.data = adapted.weight.data + (adapted.lora_A @ adapted.lora_B).T.detach()
    merged.bias.data = adapted.bias.data
    images = torch.rand(1, 3, 48, 48)
    with torch.no_grad():
        expected = model.image_encoder(images)  # type: ignore[operator]
        model.set_submodule(name, merged)
        torch.testing.assert_close(model.image_encoder(images), expected)  # type: ignore[operator]
    assert mp.verify(model, mp.make_plan(model, "h50_m50"), images) < 1e-5
