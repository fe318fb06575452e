"""What tells one model from another, and what does not."""

import copy
import hashlib
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny import tiny_sam
from tiny_samples import TinySamples
from torch import nn

import medcore_prune as mp
from medcore_prune._support.errors import CheckpointError, StatisticsError
from medcore_prune.models.fingerprint import computation_hash, hooks_of, model_hash

IMAGES = TinySamples("a", 2)


def activation(model: Any) -> None:
    model.image_encoder.blocks[0].mlp.act = nn.ReLU()


def same_class_otherwise_set(model: Any) -> None:
    model.image_encoder.blocks[0].mlp.act = nn.GELU("tanh")


def epsilon(model: Any) -> None:
    model.image_encoder.blocks[1].norm2.eps = 1e-3


def decoder_heads(model: Any) -> None:
    model.mask_decoder.transformer.layers[1].self_attn.num_heads = 4


def forward_hook(model: Any) -> Any:
    return model.image_encoder.blocks[1].mlp.register_forward_hook(lambda part, given, made: 2 * made)


def backward_hook(model: Any) -> Any:
    return model.image_encoder.blocks[1].mlp.register_full_backward_hook(lambda part, given, made: None)


def own_forward(model: Any) -> None:
    model.image_encoder.blocks[1].mlp.forward = torch.zeros_like


def unstored_buffer(model: Any) -> None:
    model.image_encoder.register_buffer("shift", torch.ones(1), persistent=False)


CHANGES = [
    activation,
    same_class_otherwise_set,
    epsilon,
    decoder_heads,
    own_forward,
    unstored_buffer,
]


@pytest.mark.parametrize("change", CHANGES)
def test_what_changes_the_computation_alone_is_another_model(change: Callable[[Any], None]) -> None:
    model = tiny_sam()
    other = copy.deepcopy(model)
    change(other)
    assert model_hash(model) == model_hash(other)
    assert computation_hash(model) != computation_hash(other)
    assert computation_hash(other) == computation_hash(other)


def test_how_the_same_is_computed_does_not_count(tmp_path: Path) -> None:
    model = tiny_sam()
    known = computation_hash(model)
    assert computation_hash(copy.deepcopy(model).train()) == known
    assert computation_hash(mp.set_checkpointing(mp.set_attention(copy.deepcopy(model), "sdpa"))) == known
    mp.save(model, tmp_path / "a.safetensors")
    assert computation_hash(mp.load(tmp_path / "a.safetensors")) == known


def test_a_pruned_model_is_the_one_that_is_loaded(tmp_path: Path) -> None:
    model = tiny_sam()
    small = mp.prune(model, mp.make_plan(model, "h50_m50"))
    mp.save(small, tmp_path / "a.safetensors")
    assert computation_hash(mp.load(tmp_path / "a.safetensors")) == computation_hash(small) != computation_hash(model)


def test_two_hooks_are_never_the_same() -> None:
    first, second = tiny_sam(), tiny_sam()
    assert hooks_of(first, second) == ""
    forward_hook(first)
    backward_hook(second)
    assert len({hooks_of(first), hooks_of(second), hooks_of(first, second), hooks_of(tiny_sam())}) == 4
    assert hooks_of(first) == hooks_of(first)


def test_functions_of_other_arguments_are_others() -> None:
    first, second = tiny_sam(), tiny_sam()
    for model, kind in ((first, "tanh"), (second, "none")):
        model.scaled = partial(nn.functional.gelu, approximate=kind)  # type: ignore[assignment]
    assert computation_hash(first) != computation_hash(second)


def test_a_forward_that_was_put_on_a_part_counts_as_a_hook(tmp_path: Path) -> None:
    model: Any = tiny_sam()
    part = model.image_encoder.blocks[0].mlp
    whole = part.forward
    part.forward = lambda x: 2 * whole(x)
    assert "" != hooks_of(model) != hooks_of(model)
    with pytest.raises(
        CheckpointError, match=r"blocks\.0\.mlp is MLPBlock forward=.*<lambda>, where .* MLPBlock forward=its own"
    ):
        mp.save(model, tmp_path / "a.safetensors")
    del part.forward
    assert hooks_of(model) == ""


def test_what_a_library_hooks_into_its_own_model_belongs_to_it() -> None:
    class Hook:
        __module__ = "segment_anything.modeling"

        def __call__(self, *_: Any) -> None: ...

    model = tiny_sam()
    model.get_submodule("image_encoder.blocks.0").register_forward_hook(Hook())
    assert hooks_of(model) == ""


def test_sums_of_a_hooked_model_are_not_found_for_another(tmp_path: Path) -> None:
    model, layer = tiny_sam(), "image_encoder.blocks.0.mlp.lin1"

    def collected() -> torch.Tensor:
        return mp.calibrate(model, data=IMAGES, samples=2, cache_dir=tmp_path, progress=False).fisher("a", layer)[0]

    plain = collected()
    handle = forward_hook(model)
    doubled = collected()
    assert not torch.equal(doubled, plain)
    assert torch.equal(doubled, collected())
    handle.remove()
    assert torch.equal(collected(), plain)
    other = forward_hook(model)
    count = len(list(tmp_path.iterdir()))
    collected()
    assert len(list(tmp_path.iterdir())) == count + 1
    other.remove()


@pytest.mark.parametrize("change", [activation, epsilon, decoder_heads])
def test_sums_of_another_computation_are_neither_found_nor_taken(change: Callable[[Any], None], tmp_path: Path) -> None:
    model = tiny_sam()
    layer = "image_encoder.blocks.0.mlp.lin1"
    before = mp.calibrate(model, data=IMAGES, samples=2, cache_dir=tmp_path, progress=False)
    change(model)
    with pytest.raises(StatisticsError, match="taken on another model, of other weights or settings"):
        before.check_fits(model)
    after = mp.calibrate(model, data=IMAGES, samples=2, cache_dir=tmp_path, progress=False)
    after.check_fits(model)
    assert not torch.equal(after.fisher("a", layer)[0], before.fisher("a", layer)[0])


def test_sizes_go_into_a_hash_in_the_words_of_stored_ones() -> None:
    model = tiny_sam()
    words = "Geometry(image_size=48, patch_size=8, embed_dim=24, out_channels=16) "
    digest = hashlib.sha256((words + "[(4, 6, 4), (4, 6, 0), (4, 6, 4), (4, 6, 0)]\n").encode())
    for name, value in sorted(model.state_dict().items()):
        digest.update(f"{name} {tuple(value.shape)} {value.dtype}\n".encode())
        digest.update(value.numpy().tobytes())
    assert model_hash(model) == digest.hexdigest()
