"""`transformers`' ViT, which has layers of their own for queries, keys and values."""

from pathlib import Path
from typing import Any

import pytest
import torch
import torch_pruning as tp
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

import medcore_prune as mp
from medcore_prune.models.families import blocks_of, geometry_of
from medcore_prune.models.groups import groups_of
from medcore_prune.models.protocol import embed
from medcore_prune.pruning.cost import count
from medcore_prune.pruning.planning import make_plan
from medcore_prune.pruning.surgery import prune, verify
from medcore_prune.scoring.traced import traced_groups

transformers: Any = pytest.importorskip("transformers")

SIZES = {
    "image_size": 48,
    "patch_size": 8,
    "hidden_size": 24,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "intermediate_size": 96,
    "attn_implementation": "eager",
}
IMAGES = torch.rand((2, 3, 48, 48), generator=torch.Generator().manual_seed(0))


def built(name: str = "ViTModel", **options: Any) -> nn.Module:
    torch.manual_seed(0)
    kind = getattr(transformers, name)
    model: nn.Module = kind(transformers.ViTConfig(**{**SIZES, **options})).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return model


def test_a_head_owns_rows_of_three_layers() -> None:
    heads, neurons = groups_of(built())[:2]
    assert [part.name for part in heads.inputs] == [f"layers.0.attention.{role}_proj" for role in "qkv"]
    assert [part.rows[1].tolist() for part in heads.inputs] == [list(range(6, 12))] * 3
    assert heads.cost_params == 3 * 6 * (24 + 1) + 6 * 24
    assert [part.name for part in neurons.inputs] == ["layers.0.mlp.fc1"]


@pytest.mark.parametrize("name", ["ViTModel", "ViTForImageClassification"])
@pytest.mark.parametrize("bias", [True, False])
def test_what_is_masked_is_what_is_removed(name: str, bias: bool) -> None:
    model: Any = built(name, qkv_bias=bias)
    plan = make_plan(model, "h50_m70", protect=0)
    assert verify(model, plan, IMAGES) < 1e-5
    small: Any = prune(model, plan)
    first = blocks_of(small)[0]
    assert first.num_heads == first.layers["q"].out_features // 6 == len(plan.blocks[0].keep_heads) < 4
    assert small(IMAGES)[0].shape == model(IMAGES)[0].shape


def test_cost_is_what_runs() -> None:
    model: Any = built()
    plan = make_plan(model, "h50_m70", protect=0)
    for tried, cut in ((model, None), (prune(model, plan), plan)):
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            tried(IMAGES[:1])
        pooler = 2 * 24 * 24
        assert count(model, cut, "full").flops == counter.get_total_flops() - pooler
        assert count(model, cut).params == sum(p.numel() for p in tried.parameters()) == count(tried).params


def test_sizes() -> None:
    found = geometry_of(built())
    assert (found.image_size, found.patch_size, found.embed_dim, found.tokens) == (48, 8, 24, 37)


@pytest.mark.parametrize("criterion", ["random", "magnitude"])
def test_criteria_that_read_weights_work(criterion: str) -> None:
    model = built()
    plan = mp.plan(model, "h50_m70", criterion, protect=1)
    assert verify(model, plan, IMAGES) < 1e-5


def test_magnitude_counts_all_three_layers() -> None:
    model = built()
    group = groups_of(model)[0]
    scores = mp.get_criterion("magnitude")(p=1).score(group)
    expected = [
        sum(
            float((part.layer.weight[rows].abs().sum() + part.layer.bias[rows].abs().sum()).detach())
            for part, rows in parts
        )
        + float(group.layer_out.weight[:, columns].abs().sum().detach())
        for parts, columns in (
            ([(part, part.rows[unit]) for part in group.inputs], group.out_cols[unit]) for unit in range(4)
        )
    ]
    torch.testing.assert_close(scores / scores.sum(), torch.tensor(expected).double() / sum(expected))


def test_torch_pruning_sees_the_same_groups() -> None:
    model: Any = built()
    graph = tp.DependencyGraph().build_dependency(model, example_inputs=IMAGES[:1])
    own = groups_of(model)
    found = traced_groups(
        graph,
        {module: name for name, module in model.named_modules()},
        {part.layer: group.n_units for group in own if group.family == "heads" for part in group.inputs},
    )
    by_layer = {group.layer_out: group for group in found}
    for group in own:
        other = by_layer[group.layer_out]
        assert (other.family, other.n_units) == (group.family, group.n_units)
        assert {part.name for part in other.inputs} == {part.name for part in group.inputs}
        rows = {part.name: part.rows for part in other.inputs}
        assert all(torch.equal(rows[part.name], part.rows) for part in group.inputs)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_file_fills_a_model_that_the_library_builds(dtype: torch.dtype, tmp_path: Path) -> None:
    model = built().to(dtype)
    small: Any = prune(model, make_plan(model, "h50_m70", protect=0))
    mp.save(small, tmp_path / "small.safetensors")
    loaded: Any = mp.load(tmp_path / "small.safetensors", into=built())
    for name, value in small.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], value)
    with torch.no_grad():
        assert torch.equal(embed(loaded, IMAGES.to(dtype)), embed(small, IMAGES.to(dtype)))


def test_each_tensor_keeps_its_type(tmp_path: Path) -> None:
    model: Any = prune(built(), make_plan(built(), "h50_m70"))
    model.half()
    for part in model.modules():
        if isinstance(part, nn.LayerNorm):
            part.float()
    model.register_buffer("steps", torch.tensor(3))
    model.register_buffer("seen", torch.tensor([True, False]))
    mp.save(model, tmp_path / "a.safetensors")
    into = built()
    into.register_buffer("steps", torch.tensor(0))
    into.register_buffer("seen", torch.zeros(2, dtype=torch.bool))
    loaded = mp.load(tmp_path / "a.safetensors", into=into)
    kept = loaded.state_dict()
    assert {name: value.dtype for name, value in kept.items()} == {n: v.dtype for n, v in model.state_dict().items()}
    assert all(torch.equal(kept[name], value) for name, value in model.state_dict().items())
