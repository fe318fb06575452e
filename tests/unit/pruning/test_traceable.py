"""torch-pruning's own pruners on a SAM, against our own removal."""

import copy
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch
import torch_pruning as tp
from tiny import TINY, tiny_batch, tiny_sam
from tiny_samples import TinySamples
from torch import nn

import medcore_prune as mp
from medcore_prune._support.errors import CheckpointError, MedcorePruneError, SurgeryError
from medcore_prune.models.families import blocks_of, encoder_of
from medcore_prune.models.protocol import embed
from medcore_prune.models.segment_anything import build_sam
from medcore_prune.pruning.plan import BlockPlan, Plan
from medcore_prune.pruning.surgery import lineage_of
from medcore_prune.pruning.traceable import all_but_units, heads_by_layer, traceable
from medcore_prune.scoring.criterion import unit_scores

SMALL_INPUT = torch.zeros(1, 3, 32, 32)


def pruned_by_torch_pruning(model: nn.Module, importance: Any, **options: Any) -> None:
    with traceable(model) as encoder:
        pruner = tp.pruner.BasePruner(
            encoder,
            SMALL_INPUT,
            importance=importance,
            pruning_ratio=0.5,
            head_pruning_ratio=0.5,
            num_heads=heads_by_layer(model),
            **{
                "ignored_layers": all_but_units(model),
                "prune_num_heads": True,
                "prune_head_dims": False,
                **options,
            },
        )
        pruner.step()


def halved(model: nn.Module, criterion: mp.Criterion) -> Plan:
    """Half of each block's heads and neurons, those of the lowest scores."""
    scores = unit_scores(criterion, model)

    def kept(block: int, family: Any, size: int) -> tuple[int, ...]:
        return tuple(sorted(scores[block, family].argsort(stable=True)[size // 2 :].tolist()))

    blocks = [
        BlockPlan(
            b.index, b.num_heads, b.neurons, kept(b.index, "heads", b.num_heads), kept(b.index, "neurons", b.neurons)
        )
        for b in blocks_of(model)
    ]
    return Plan("h50_m50", tuple(blocks))


@pytest.mark.parametrize("whole", [True, False])
@pytest.mark.parametrize("name", ["magnitude", "medcore"])
def test_it_removes_what_our_own_removal_does(name: str, whole: bool, tmp_path: Any) -> None:
    model = tiny_sam()
    inputs: dict[str, Any] = {}
    if name == "medcore":
        data = {"a": TinySamples("a", 4)}
        inputs["statistics"] = mp.calibrate(model, tiny_sam(1), data, samples=4, cache_dir=tmp_path, progress=False)
    criterion: Any = mp.build_criterion(name, **inputs)
    expected = mp.prune(model, halved(model, criterion))
    before = copy.deepcopy(model)
    pruned_by_torch_pruning(model if whole else encoder_of(model), criterion.bind(model))
    assert [(b.num_heads, b.neurons) for b in blocks_of(model)] == [(2, 48)] * TINY.depth
    for key, value in expected.state_dict().items():
        assert torch.equal(model.state_dict()[key], value), key
    images = tiny_batch()[0]
    with torch.no_grad():
        assert torch.equal(embed(model, images), embed(expected, images))
        assert not torch.equal(embed(model, images), embed(before, images))


def test_importances_of_torch_pruning_work_too() -> None:
    model = tiny_sam()
    pruned_by_torch_pruning(model, tp.importance.GroupMagnitudeImportance(p=2))
    assert [(b.num_heads, b.neurons) for b in blocks_of(model)] == [(2, 48)] * TINY.depth
    assert embed(model, tiny_batch()[0]).isfinite().all()


@pytest.mark.parametrize("error", [None, KeyError("inside")])
def test_everything_is_put_back_even_after_an_error(error: Exception | None) -> None:
    model = tiny_sam()
    images = tiny_batch()[0]
    with torch.no_grad():
        expected = embed(model, images)
    names = list(model.state_dict())

    def look_inside() -> None:
        with traceable(model):
            assert embed(model, SMALL_INPUT).shape == (1, 16, 4, 4)
            if error:
                raise error

    with pytest.raises(KeyError, match="inside") if error else nullcontext():
        look_inside()
    assert list(model.state_dict()) == names
    assert [block.window for block in blocks_of(model)] == [4, 0, 4, 0]
    with torch.no_grad():
        assert torch.equal(embed(model, images), expected)


def test_statistics_are_bound_before_the_block(tmp_path: Path) -> None:
    model = tiny_sam()
    settings: Any = {"data": {"a": TinySamples("a", 2)}, "progress": False}
    statistics = mp.calibrate(model, cache_dir=tmp_path / "cache", **settings)
    criterion = mp.build_criterion("zero", statistics=statistics)
    with traceable(model):
        for takes in (
            lambda: criterion.bind(model),
            lambda: mp.prune(model, mp.make_plan(model, "h50_m50")),
            lambda: mp.calibrate(model, cache_dir=tmp_path / "inside", **settings),
        ):
            with pytest.raises(SurgeryError, match="bind criteria before the block"):
                takes()
        mp.build_criterion("magnitude").bind(model)  # reads no statistics
    criterion.bind(model)
    assert not (tmp_path / "inside").exists()


def test_one_pruner_after_another() -> None:
    model = tiny_sam()
    for left in ((2, 48), (1, 24)):
        pruned_by_torch_pruning(model, tp.importance.GroupMagnitudeImportance(p=2))
        assert [(b.num_heads, b.neurons) for b in blocks_of(model)] == [left] * TINY.depth
        # training in between, on real attention
        embed(model, tiny_batch()[0]).square().mean().backward()
        torch.optim.SGD(model.parameters(), 0.1).step()


def test_vit_b_is_traced_on_a_small_input() -> None:
    model = build_sam("vit_b")
    pruned_by_torch_pruning(model, tp.importance.RandomImportance())
    assert [(b.num_heads, b.neurons) for b in blocks_of(model)] == [(6, 1536)] * 12


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"prune_num_heads": False, "prune_head_dims": True}, "are no whole heads of 6"),
        ({"ignored_layers": []}, "the residual stream was pruned"),
    ],
)
def test_what_leaves_no_sam_is_said(options: dict[str, Any], says: str) -> None:
    with pytest.raises(SurgeryError, match=says):
        pruned_by_torch_pruning(tiny_sam(), tp.importance.RandomImportance(), **options)


def test_another_model_is_refused() -> None:
    timm: Any = pytest.importorskip("timm")
    model = timm.create_model("vit_base_patch16_224", embed_dim=24, depth=1, num_heads=2, img_size=32)
    with pytest.raises(MedcorePruneError, match="traceable as it is"), traceable(model):
        pass


def test_it_works_on_transformers_sam() -> None:
    pytest.importorskip("transformers")
    from unit.models.test_transformers_sam import as_transformers

    model = as_transformers(tiny_sam())
    criterion: Any = mp.get_criterion("magnitude")()
    expected = mp.prune(model, halved(model, criterion))
    pruned_by_torch_pruning(model, criterion.bind(model))
    for key, value in expected.state_dict().items():
        assert torch.equal(model.state_dict()[key], value), key
    images = tiny_batch()[0]
    torch.testing.assert_close(embed(model, images), embed(expected, images))


def test_what_stayed_is_remembered_and_saved(tmp_path: Path) -> None:
    model = tiny_sam()
    criterion: Any = mp.get_criterion("magnitude")()
    expected = halved(model, criterion)
    pruned_by_torch_pruning(model, criterion.bind(model))
    first = lineage_of(model).plan
    assert first is not None
    assert first.blocks == expected.blocks
    pruned_by_torch_pruning(model, tp.importance.RandomImportance())
    small = mp.prune(model, mp.make_plan(model, "h0_m50", protect=0))
    kept = lineage_of(small).plan
    assert kept is not None
    assert set(kept.blocks[0].keep_heads) < set(first.blocks[0].keep_heads)
    mp.save(small, tmp_path / "small.safetensors")
    loaded = mp.load(tmp_path / "small.safetensors")
    assert lineage_of(loaded).plan == kept
    whole = tiny_sam().state_dict()["image_encoder.blocks.0.mlp.lin1.weight"]
    left = loaded.state_dict()["image_encoder.blocks.0.mlp.lin1.weight"]
    assert torch.equal(left, whole[list(kept.blocks[0].keep_neurons)])
    images = tiny_batch()[0]
    with torch.no_grad():
        assert torch.equal(embed(loaded, images), embed(small, images))


def test_looking_inside_makes_no_plan() -> None:
    model = tiny_sam()
    with traceable(model):
        pass
    assert lineage_of(model).plan is None


def test_an_encoder_alone_tells_its_sam_nothing(tmp_path: Path) -> None:
    model = tiny_sam()
    pruned_by_torch_pruning(encoder_of(model), tp.importance.RandomImportance())
    says = "block 0 has 2 heads and 48 neurons, a whole Sam has 4 and 96 .*hand the whole model to prune or traceable"
    for cut in (model, mp.prune(model, mp.make_plan(model, "h50_m50", protect=0))):
        with pytest.raises(CheckpointError, match=says if cut is model else "what went otherwise than by prune"):
            mp.save(cut, tmp_path / "a.safetensors")
