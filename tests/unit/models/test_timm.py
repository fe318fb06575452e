"""Vision transformers of `timm`: their real classes, small and untrained, are shown, counted and cut."""

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_samples import TinySamples
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

import medcore_prune as mp
from medcore_prune._support.errors import MedcorePruneError, SurgeryError
from medcore_prune.models.families import blocks_of, geometry_of
from medcore_prune.models.protocol import embed, low_res_logits
from medcore_prune.pruning.cost import count
from medcore_prune.pruning.planning import make_plan
from medcore_prune.pruning.surgery import prune, verify

timm: Any = pytest.importorskip("timm")

SMALL = {"img_size": 48, "patch_size": 8, "embed_dim": 24, "depth": 4, "num_heads": 4}
MODELS = {
    "vit": ("vit_base_patch16_224", {**SMALL, "num_classes": 5}),
    "registers and layer scale (DINOv2)": ("vit_small_patch14_reg4_dinov2", SMALL),
    "normed queries and keys": ("vit_base_patch16_224", {**SMALL, "qk_norm": True}),
    "samvit": ("samvit_base_patch16", {**SMALL, "window_size": 4, "global_attn_indexes": (1, 3), "neck_chans": 16}),
}


def built(name: str) -> nn.Module:
    architecture, options = MODELS[name]
    torch.manual_seed(0)
    model: nn.Module = timm.create_model(architecture, pretrained=False, **options).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return model


IMAGES = torch.rand((2, 3, 48, 48), generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("name", MODELS)
def test_what_is_masked_is_what_is_removed(name: str) -> None:
    model = built(name)
    plan = make_plan(model, "h50_m70", protect=0)
    assert verify(model, plan, IMAGES) < 1e-5
    small: Any = prune(model, plan)
    assert small.blocks[0].attn.num_heads == len(plan.blocks[0].keep_heads) < 4
    # classification too, by the model's own forward
    whole: Any = model
    assert small(IMAGES).shape == whole(IMAGES).shape


@pytest.mark.parametrize("name", MODELS)
def test_cost_is_what_runs(name: str) -> None:
    model: Any = built(name)
    # written-out products, which the counter sees
    for block in model.blocks:
        block.attn.fused_attn = False
    plan = make_plan(model, "h50_m70", protect=0)
    for tried, cut in ((model, None), (prune(model, plan), plan)):
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            tried.forward_features(IMAGES[:1])
        assert count(model, cut, "full").flops == counter.get_total_flops()
        assert count(model, cut).params == sum(p.numel() for p in tried.parameters()) == count(tried).params


def test_sizes() -> None:
    for name, prefix, channels in (("vit", 1, 0), ("registers and layer scale (DINOv2)", 5, 0), ("samvit", 0, 16)):
        found = geometry_of(built(name))
        assert (found.image_size, found.patch_size, found.embed_dim) == (48, 8, 24)
        assert (found.prefix_tokens, found.out_channels, found.tokens) == (prefix, channels, 36 + prefix)
    assert [block.window for block in blocks_of(built("samvit"))] == [4, 0, 4, 0]


@pytest.mark.parametrize("criterion", ["random", "magnitude"])
def test_criteria_that_read_weights_work(criterion: str) -> None:
    model = built("vit")
    plan = mp.plan(model, "h50_m70", criterion, protect=1)
    assert len(plan.blocks[-1].keep_heads) == 4
    assert verify(model, plan, IMAGES) < 1e-5


def test_a_loss_of_masks_is_refused() -> None:
    with pytest.raises(MedcorePruneError, match="VisionTransformer is an encoder without a mask decoder"):
        low_res_logits(built("vit"), IMAGES, torch.zeros(2, 4))


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"scale_attn_norm": True}, r"blocks\.0\.attn\.norm scales all heads together"),
        ({"scale_mlp_norm": True}, r"blocks\.0\.mlp\.norm scales all neurons together"),
        ({"img_size": (48, 96)}, "48 x 96 pixels"),
    ],
)
def test_what_cannot_be_cut_is_named(options: dict[str, Any], says: str) -> None:
    model = timm.create_model("vit_base_patch16_224", pretrained=False, **{**SMALL, **options})
    with pytest.raises(MedcorePruneError, match=says):
        count(model)


def test_a_gated_mlp_is_refused() -> None:
    model = timm.create_model("vit_giant_patch14_dinov2", pretrained=False, **SMALL)
    with pytest.raises(MedcorePruneError, match=r"blocks\.0 has a gated MLP"):
        blocks_of(model)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_file_fills_a_model_that_the_library_builds(dtype: torch.dtype, tmp_path: Path) -> None:
    model = built("vit").to(dtype)
    small: Any = prune(model, make_plan(model, "h50_m70", protect=0))
    mp.save(small, tmp_path / "small.safetensors")
    loaded: Any = mp.load(tmp_path / "small.safetensors", into=built("vit"))
    for name, value in small.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], value)
    with torch.no_grad():
        assert torch.equal(embed(loaded, IMAGES.to(dtype)), embed(small, IMAGES.to(dtype)))


def test_samvit_is_corrected() -> None:
    model = built("samvit")
    small = prune(model, make_plan(model, "h50_m70", protect=0))

    def error() -> float:
        return float((embed(small, IMAGES) - embed(model, IMAGES)).norm())

    before = error()
    mp.correct(small, model, {"a": TinySamples("a", 4)}, weighting="none", progress=False)
    assert error() < 0.8 * before


@pytest.mark.parametrize("name", [name for name in MODELS if name != "samvit"])
def test_blocks_that_read_tokens_in_a_row_are_not_corrected(name: str) -> None:
    model = built(name)
    small = prune(model, make_plan(model, "h50_m70", protect=0))
    before = copy.deepcopy(small.state_dict())
    with pytest.raises(SurgeryError, match=r"in a row, \(B, (37|41), 24\): .*square.*\(B, 6, 6, 24\); leave out"):
        mp.correct(small, model, {"a": TinySamples("a", 2)}, weighting="none", progress=False)
    assert all(torch.equal(value, before[key]) for key, value in small.state_dict().items())
