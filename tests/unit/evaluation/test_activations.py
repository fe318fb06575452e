"""The formula for activations against what torch keeps, and against the peak of the real work."""

import math

import pytest
import torch
from tiny import TINY, tiny_batch, tiny_sam
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks

import medcore_prune as mp
from medcore_prune.evaluation.estimates import activations_of
from medcore_prune.evaluation.latency import measured
from medcore_prune.models.families import encoder_of, geometry_of
from medcore_prune.models.losses import plain_loss
from medcore_prune.models.protocol import input_logits, low_res_logits
from medcore_prune.models.segment_anything import build_sam
from medcore_prune.models.switches import checkpointing, set_attention


def kept_bytes(model: nn.Module) -> int:
    """Bytes of what autograd keeps of forward pass and loss over one image, parameters apart."""
    size = geometry_of(model).image_size
    own = {p.untyped_storage().data_ptr() for p in model.parameters()}
    found: dict[int, tuple[Tensor, int]] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            # held, so that no other storage can come to lie at the same place
            found[storage.data_ptr()] = (tensor, storage.nbytes())
        return tensor

    images, box = torch.rand(1, 3, size, size), torch.tensor([[0.2, 0.2, 0.6, 0.6]]) * size
    masks = torch.zeros(1, 1, size, size)
    masks[..., size // 5 : 3 * size // 5, size // 5 : 3 * size // 5] = 1
    with saved_tensors_hooks(pack, lambda tensor: tensor):
        loss = plain_loss(input_logits(low_res_logits(model, images, box), size), masks)
    assert loss.requires_grad
    return sum(size for _, size in found.values())


MODELS = {
    "tiny": lambda: tiny_sam(),
    "pocket": lambda: build_sam("pocket"),
    "vit_b at 224": lambda: build_sam("vit_b", image_size=224),
}


@pytest.mark.parametrize("attention", ["segment-anything", "sdpa"])
@pytest.mark.parametrize("name", list(MODELS))
def test_kept_within_a_quarter_of_what_torch_keeps(name: str, attention: str) -> None:
    model = set_attention(MODELS[name](), attention)
    assert activations_of(model).saved(False) / kept_bytes(model) == pytest.approx(1, abs=0.25)


@pytest.mark.parametrize("attention", ["segment-anything", "sdpa"])
def test_a_pruned_model_keeps_less(attention: str) -> None:
    model = build_sam("pocket")
    small = set_attention(mp.prune(model, mp.make_plan(model, "h70_m70")), attention)
    assert activations_of(small).saved(False) / kept_bytes(small) == pytest.approx(1, abs=0.25)
    assert activations_of(small).kept < 0.6 * activations_of(model).kept


@pytest.mark.parametrize("attention", ["segment-anything", "sdpa"])
def test_forward_work_against_its_peak(attention: str) -> None:
    encoder = encoder_of(set_attention(build_sam("pocket"), attention))
    with torch.no_grad(), measured() as cost:
        encoder(torch.rand(4, 3, 96, 96))
    assert 4 * activations_of(encoder).forward_work / cost.peak_bytes == pytest.approx(1, abs=0.4)


def test_checkpointing_keeps_what_enters_and_one_block() -> None:
    model = tiny_sam()
    one = activations_of(model)
    assert one.entering == TINY.depth * 36 * 24 * 4
    encoder = encoder_of(model)
    with checkpointing(model), measured() as cost:
        kept = encoder(tiny_batch(1)[0])
    assert kept.requires_grad
    # what entered the blocks and the neck's part of `around` stay; no block does
    assert one.entering < cost.peak_bytes
    assert one.saved(True) == one.around + one.entering + one.largest_block < one.saved(False)


def test_fused_attention_of_vit_h_needs_no_weights() -> None:
    with_maps, fused = (
        activations_of(set_attention(build_sam("vit_h", "meta"), kind)) for kind in ("segment-anything", "sdpa")
    )
    # 16 maps of 4096 x 4096 in each of four global blocks
    assert with_maps.kept - fused.kept > 0.5 * 4 * 16 * 4096**2 * 4
    assert with_maps.weight_gradient == fused.weight_gradient == 1280 * 5120 * 4
    assert math.isclose(with_maps.layer_gradients, fused.layer_gradients)
