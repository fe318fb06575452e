"""A cut of as many neurons everywhere, as a folder that plain `transformers` reads, with equal outputs."""

import json
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from tiny import tiny_batch, tiny_sam

import medcore_prune as mp
from medcore_prune.checkpoints.transformers_names import segment_anything_name, transformers_name
from medcore_prune.commands.cli import cli
from medcore_prune.models.families import blocks_of
from medcore_prune.models.protocol import decode_scored, embed

transformers = pytest.importorskip("transformers", reason="transformers is not installed")


def regular(model: torch.nn.Module, level: str) -> mp.Plan:
    recipe = mp.get_baseline("magnitude").with_settings(quotas="uniform")
    return mp.plan(model, mp.regular_level(model, level), recipe, protect=0)


@pytest.mark.parametrize("level", ["h0_m0", "h0_m50", "h0_m90"])
def test_transformers_gives_the_same_outputs(level: str, tmp_path: Path) -> None:
    whole = tiny_sam()
    small = mp.prune(whole, regular(whole, level))
    theirs = transformers.SamModel.from_pretrained(mp.save_transformers(small, tmp_path / "folder")).eval()
    images, boxes, _ = tiny_batch(2)
    with torch.no_grad():
        ours = embed(small, images)
        assert torch.allclose(ours, theirs.vision_encoder(images)[0], atol=1e-5)
        expected, scores = decode_scored(small, ours, boxes)
        got = theirs(pixel_values=images, input_boxes=boxes[:, None], multimask_output=False)
    assert torch.allclose(got.pred_masks[:, 0], expected, atol=1e-4)
    assert torch.allclose(got.iou_scores[:, 0, 0], scores, atol=1e-4)
    counts = {tuple(layer.mlp.lin1.weight.shape) for layer in theirs.vision_encoder.layers}
    assert counts == {(blocks_of(small)[0].neurons, blocks_of(small)[0].width)}


def test_nothing_is_missing_and_nothing_too_much(tmp_path: Path) -> None:
    mp.save_transformers(tiny_sam(), tmp_path)
    _, told = transformers.SamModel.from_pretrained(tmp_path, output_loading_info=True)
    assert not any(told.values()), told


def test_names_go_there_and_back() -> None:
    names = [name for name in tiny_sam().state_dict() if not name.startswith("pixel_")]
    assert [segment_anything_name(transformers_name(name)) for name in names] == names
    assert len({transformers_name(name) for name in names}) == len(names)


def test_what_a_configuration_cannot_say_is_refused(tmp_path: Path) -> None:
    whole = tiny_sam()
    for level, message in (
        ("h50_m50", r"no word for a cut of heads.*uniformly \(mp.regular_level of h0_m70\)"),
        ("h0_m50", r"one number of neurons for all blocks, here there are .*uniformly \(mp.regular_level of h0_m70\)"),
    ):
        plan = mp.plan(whole, level, "magnitude", protect=1)
        with pytest.raises(mp.MedcorePruneError, match=message):
            mp.save_transformers(mp.prune(whole, plan), tmp_path / "folder")
    assert not (tmp_path / "folder").exists()
    extended = tiny_sam()
    extended.image_encoder.register_parameter("added", torch.nn.Parameter(torch.zeros(1)))
    with pytest.raises(mp.MedcorePruneError, match=r"1 differ, first image_encoder.added\): transformers would"):
        mp.save_transformers(extended, tmp_path / "folder")
    theirs = transformers.SamModel.from_pretrained(mp.save_transformers(whole, tmp_path / "whole"))
    with pytest.raises(mp.MedcorePruneError, match="of the family transformers SAM: save it"):
        mp.save_transformers(theirs, tmp_path / "folder")


def test_uniform_takes_the_same_of_every_block_also_where_shares_are_no_whole_units() -> None:
    whole = tiny_sam()
    plan = regular(whole, "h30_m33.3")
    assert len({(len(block.keep_heads), len(block.keep_neurons)) for block in plan.blocks}) == 1
    assert plan.protected == ()
    with pytest.raises(mp.MedcorePruneError, match=r"have to stay: ask for at most"):
        mp.regular_level(whole, "h0_m97")


def test_the_commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    prune = ["prune", "--level", "h0_m50", "--uniform", "--method", "magnitude", "--calibration", "2"]
    for words in (prune, ["export", "pruned.safetensors", "--format", "transformers"]):
        result = CliRunner().invoke(cli, words, catch_exceptions=False)
        assert result.exit_code == 0, result.output
    assert json.loads((tmp_path / "transformers/config.json").read_text())["vision_config"]["mlp_dim"] == 240
    images = torch.rand(1, 3, 96, 96, generator=torch.Generator().manual_seed(0))
    theirs = transformers.SamModel.from_pretrained(tmp_path / "transformers").eval()
    ours = mp.load(tmp_path / "pruned.safetensors")
    with torch.no_grad():
        assert torch.allclose(embed(ours, images), theirs.vision_encoder(images)[0], atol=1e-5)
    for words, message in (
        ([*prune, "--protect", "2"], "--uniform takes the same from every block, and --protect says"),
        (["export", "pruned.safetensors", "--format", "transformers", "--int8"], "--int8 is of ONNX files"),
    ):
        result = CliRunner().invoke(cli, words)
        assert (result.exit_code, message in result.output) == (2, True), result.output
