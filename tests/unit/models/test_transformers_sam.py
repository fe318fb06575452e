"""`transformers`' SAM gives what segment-anything's does with the same weights, and is cut alike."""

import copy
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny import TINY, tiny_batch, tiny_sam
from tiny_samples import TinySamples
from torch import nn

import medcore_prune as mp
from medcore_prune._support.errors import CheckpointError, MedcorePruneError
from medcore_prune.models.families import blocks_of, encoder_of, geometry_of
from medcore_prune.models.protocol import embed, low_res_logits
from medcore_prune.pruning.cost import CONVENTIONS, count
from medcore_prune.pruning.planning import make_plan
from medcore_prune.pruning.surgery import masked, prune, verify

transformers: Any = pytest.importorskip("transformers")

# segment-anything's names to those of transformers, in this order
_RENAMED = (
    (r"^image_encoder\.blocks\.(\d+)\.norm", r"vision_encoder.layers.\1.layer_norm"),
    (r"^image_encoder\.blocks\.", "vision_encoder.layers."),
    (r"^image_encoder\.patch_embed\.proj", "vision_encoder.patch_embed.projection"),
    (r"^image_encoder\.neck\.0", "vision_encoder.neck.conv1"),
    (r"^image_encoder\.neck\.1", "vision_encoder.neck.layer_norm1"),
    (r"^image_encoder\.neck\.2", "vision_encoder.neck.conv2"),
    (r"^image_encoder\.neck\.3", "vision_encoder.neck.layer_norm2"),
    (r"^image_encoder", "vision_encoder"),
    (r"pe_layer\.positional_encoding_gaussian_matrix", "shared_embedding.positional_embedding"),
    (r"point_embeddings", "point_embed"),
    (r"mask_downscaling\.0", "mask_embed.conv1"),
    (r"mask_downscaling\.1", "mask_embed.layer_norm1"),
    (r"mask_downscaling\.3", "mask_embed.conv2"),
    (r"mask_downscaling\.4", "mask_embed.layer_norm2"),
    (r"mask_downscaling\.6", "mask_embed.conv3"),
    (r"output_upscaling\.0", "upscale_conv1"),
    (r"output_upscaling\.1", "upscale_layer_norm"),
    (r"output_upscaling\.3", "upscale_conv2"),
    (r"transformer\.norm_final_attn", "transformer.layer_norm_final_attn"),
    (r"(transformer\.layers\.\d+)\.norm(\d)", r"\1.layer_norm\2"),
    (r"(mlps\.\d+|iou_prediction_head)\.layers\.0", r"\1.proj_in"),
    (r"(mlps\.\d+|iou_prediction_head)\.layers\.2", r"\1.proj_out"),
    (r"(mlps\.\d+|iou_prediction_head)\.layers\.1", r"\1.layers.0"),
)


def as_transformers(sam: nn.Module) -> nn.Module:
    """A `SamModel` with the weights of a tiny `Sam`."""
    side = TINY.image_size // TINY.patch_size
    config = transformers.SamConfig(
        vision_config={
            "image_size": TINY.image_size,
            "patch_size": TINY.patch_size,
            "hidden_size": TINY.embed_dim,
            "num_hidden_layers": TINY.depth,
            "num_attention_heads": TINY.num_heads,
            "global_attn_indexes": list(TINY.global_blocks),
            "window_size": TINY.window,
            "output_channels": TINY.out_channels,
            "mlp_dim": 4 * TINY.embed_dim,
            "num_pos_feats": TINY.out_channels // 2,
        },
        prompt_encoder_config={
            "image_size": TINY.image_size,
            "patch_size": TINY.patch_size,
            "image_embedding_size": side,
            "hidden_size": TINY.out_channels,
        },
        mask_decoder_config={
            "hidden_size": TINY.out_channels,
            "num_attention_heads": TINY.decoder_heads,
            "mlp_dim": TINY.decoder_mlp_dim,
            "iou_head_hidden_dim": TINY.iou_hidden_dim,
        },
    )
    model = transformers.SamModel(config).eval()
    state = {}
    for name, value in sam.state_dict().items():
        for pattern, new in _RENAMED:
            name = re.sub(pattern, new, name)
        state[name] = value
    state["shared_image_embedding.positional_embedding"] = state["prompt_encoder.shared_embedding.positional_embedding"]
    model.load_state_dict(state)
    return model


SAM = tiny_sam()
MODEL = as_transformers(SAM)
PLAN = make_plan(SAM, "h50_m70")


def test_blocks_and_sizes_are_those_of_segment_anything() -> None:
    assert geometry_of(MODEL) == geometry_of(SAM)
    ours, theirs = blocks_of(MODEL), blocks_of(SAM)
    assert [(b.num_heads, b.head_dim, b.neurons, b.window) for b in ours] == [
        (b.num_heads, b.head_dim, b.neurons, b.window) for b in theirs
    ]
    for block in ours:
        for role, name in block.layer_names.items():
            assert MODEL.get_submodule(name) is block.layers[role]


@pytest.mark.parametrize("convention", CONVENTIONS)
def test_cost_is_that_of_segment_anything(convention: str) -> None:
    for plan in (None, PLAN):
        ours, theirs = count(MODEL, plan, convention), count(SAM, plan, convention)
        assert (ours.params, ours.flops) == (theirs.params, theirs.flops)


@pytest.mark.parametrize("plan", [None, PLAN])
def test_masks_are_those_of_segment_anything(plan: mp.Plan | None) -> None:
    images, boxes, _ = tiny_batch()
    models = (SAM, MODEL) if plan is None else (prune(SAM, plan), prune(MODEL, plan))
    with torch.no_grad():
        expected, got = (low_res_logits(model, images, boxes) for model in models)
    torch.testing.assert_close(got, expected, atol=2e-5, rtol=1e-4)


def test_what_is_masked_is_what_is_removed() -> None:
    images, boxes, _ = tiny_batch()
    assert verify(MODEL, PLAN, images) < 1e-5
    with torch.no_grad(), masked(MODEL, PLAN):
        expected = MODEL(pixel_values=images, input_boxes=boxes[:, None], multimask_output=False).pred_masks
    small: Any = prune(MODEL, PLAN)
    with torch.no_grad():
        got = small(pixel_values=images, input_boxes=boxes[:, None], multimask_output=False).pred_masks
    torch.testing.assert_close(got, expected, atol=1e-5, rtol=1e-4)
    assert small.vision_encoder.layers[0].attn.num_attention_heads == len(PLAN.blocks[0].keep_heads)
    assert MODEL.vision_encoder.layers[0].attn.num_attention_heads == TINY.num_heads


@pytest.mark.parametrize("inner", ["vision_encoder", "vision_model"])
def test_the_encoder_alone_is_cut_but_has_no_masks(inner: str) -> None:
    encoder: Any = encoder_of(MODEL)
    if inner == "vision_model":
        encoder = transformers.SamVisionModel(encoder.config).eval()
        encoder.vision_encoder.load_state_dict(encoder_of(MODEL).state_dict())
    images, boxes, _ = tiny_batch()
    assert verify(encoder, PLAN, images) < 1e-5
    torch.testing.assert_close(embed(encoder, images), embed(MODEL, images))
    with pytest.raises(MedcorePruneError, match="an encoder without a mask decoder"):
        low_res_logits(encoder, images, boxes)


@pytest.mark.parametrize("model", [SAM, MODEL], ids=["segment_anything", "transformers"])
def test_double_precision_takes_images_of_single_precision(model: nn.Module) -> None:
    images, boxes, _ = tiny_batch()
    got = low_res_logits(copy.deepcopy(model).double(), images, boxes)
    assert got.dtype == torch.float64
    torch.testing.assert_close(got.float(), low_res_logits(model, images, boxes), rtol=1e-3, atol=1e-4)


def test_it_is_calibrated_scored_and_corrected_like_segment_anything(tmp_path: Any) -> None:
    data = {"a": TinySamples("a", 4)}
    plans, errors = [], []
    for name, model in (("sam", SAM), ("transformers", MODEL)):
        found = mp.calibrate(model, None, data, samples=4, cache_dir=tmp_path / name, progress=False)
        plans.append(mp.plan(model, "h50_m70", "zero_fisher", statistics=found))
        small = prune(model, plans[-1])
        errors.append(mp.correct(small, model, data, progress=False).stream_error)
    assert [block.keep_heads for block in plans[0].blocks] == [block.keep_heads for block in plans[1].blocks]
    pairs = zip(plans[0].blocks, plans[1].blocks, strict=True)
    same = [len({*a.keep_neurons} & {*b.keep_neurons}) / len(a.keep_neurons) for a, b in pairs]
    assert min(same) > 0.95  # rounding may swap two neurons of all but equal score
    assert errors[0] == pytest.approx(errors[1], rel=1e-2)


def test_a_recovery_is_kept(tmp_path: Path) -> None:
    store, split = mp.RecoveryStore(tmp_path), mp.data.split(TinySamples("a", 4))
    settings = mp.RecoverySettings(steps=1, batch_size=2, validate_every=0)
    first, _ = store.recover(prune(MODEL, PLAN), MODEL, split, settings, progress=False)
    second, _ = store.recover(prune(MODEL, PLAN), MODEL, split, settings, progress=False)
    assert all(torch.equal(value, second.state_dict()[name]) for name, value in first.state_dict().items())


def test_a_file_fills_a_model_that_the_library_builds(tmp_path: Path) -> None:
    images, boxes, _ = tiny_batch()
    small: Any = prune(MODEL, PLAN)
    mp.save(small, tmp_path / "small.safetensors", provenance={"adapted": "a"})
    fresh: Any = transformers.SamModel(MODEL.config)
    loaded: Any = mp.load(tmp_path / "small.safetensors", into=fresh)
    with torch.no_grad():
        assert torch.equal(low_res_logits(loaded, images, boxes), low_res_logits(small, images, boxes))
    shared = loaded.prompt_encoder.shared_embedding.positional_embedding
    assert shared.data_ptr() == loaded.shared_image_embedding.positional_embedding.data_ptr()
    assert blocks_of(fresh)[0].num_heads == TINY.num_heads
    # a second cut and a second file are in the indices of the whole model
    again = prune(loaded, make_plan(loaded, "h20_m20"))
    mp.save(again, tmp_path / "again.safetensors")
    assert mp.load(tmp_path / "again.safetensors", into=fresh) is not fresh


def test_a_file_without_its_model_is_refused(tmp_path: Path) -> None:
    place = tmp_path / "small.safetensors"
    mp.save(prune(MODEL, PLAN), place)
    with pytest.raises(CheckpointError, match=r"family transformers SAM, .* give the unpruned model"):
        mp.load(place)
    with pytest.raises(CheckpointError, match="into= is one of segment_anything"):
        mp.load(place, into=SAM)
    with pytest.raises(CheckpointError, match="does not fit"):
        mp.load(place, into=prune(MODEL, PLAN))
    other = transformers.SamModel(MODEL.config)
    other.mask_decoder.iou_token = nn.Embedding(2, TINY.out_channels)
    with pytest.raises(CheckpointError, match=r"first mask_decoder\.iou_token\.weight: expected \(2, 16\)"):
        mp.load(place, into=other)
