"""Checkpointing changes what is kept for the backward pass, and no number."""

import copy
from pathlib import Path

import pytest
import torch
from tiny import tiny_batch, tiny_sam
from tiny_samples import TinySamples
from torch import nn
from torch.autograd.graph import saved_tensors_hooks

import medcore_prune as mp
from medcore_prune.calibration.layer_gradients import watching
from medcore_prune.calibration.sums import Accumulator
from medcore_prune.models.families import blocks_of, encoder_of
from medcore_prune.models.switches import checkpointing, is_checkpointing, set_attention, set_checkpointing
from medcore_prune.training.batches.batch import Batch
from medcore_prune.training.loop import train
from medcore_prune.training.settings import TrainSettings


def gradients(model: nn.Module) -> list[torch.Tensor]:
    encoder = encoder_of(model)
    loss = encoder(tiny_batch(2)[0]).square().sum()
    return list(torch.autograd.grad(loss, list(encoder.parameters())))


def sums(model: nn.Module, masked: mp.Plan | None = None) -> dict[str, torch.Tensor]:
    accumulator = Accumulator(model, ("fisher", "gradient"))
    for start in (0, 3):
        batch = tiny_batch(3, seed=start)
        if masked is None:
            accumulator.add(*batch)
        else:
            with mp.masked(model, masked):
                accumulator.add(*batch)
    return {f"{kind}/{name}": value for kind, of in accumulator.sums.items() for name, value in of.items()}


@pytest.mark.parametrize("attention", ["segment-anything", "sdpa"])
def test_gradients_are_the_same_numbers(attention: str) -> None:
    model = set_attention(tiny_sam(), attention)
    expected = gradients(model)
    with checkpointing(model):
        got = gradients(model)
    assert all(torch.equal(one, other) for one, other in zip(expected, got, strict=True))


@pytest.mark.parametrize("attention", ["segment-anything", "sdpa"])
def test_fisher_sums_are_the_same_numbers(attention: str) -> None:
    model = set_attention(tiny_sam(), attention)
    assert {block.window for block in blocks_of(model)} == {0, 4}
    expected = sums(model)
    with checkpointing(model):
        got = sums(model)
    assert expected.keys() == got.keys()
    assert all(torch.equal(value, got[name]) for name, value in expected.items())
    assert any(value.abs().max() > 0 for value in expected.values())


def test_fisher_of_a_masked_and_of_a_pruned_model() -> None:
    model = tiny_sam()
    plan = mp.make_plan(model, "h50_m50")
    for subject, masks in ((model, plan), (mp.prune(model, plan), None)):
        expected = sums(subject, masks)
        with checkpointing(subject):
            got = sums(subject, masks)
        assert all(torch.equal(value, got[name]) for name, value in expected.items())


def test_fisher_in_bfloat16() -> None:
    expected, got = (Accumulator(tiny_sam(), precision="bf16") for _ in range(2))
    expected.add(*tiny_batch(2))
    with checkpointing(got.model):
        got.add(*tiny_batch(2))
    for name, value in expected.sums["fisher"].items():
        assert torch.equal(value, got.sums["fisher"][name])


def test_calibration_is_the_same(tmp_path: Path) -> None:
    model, reference = tiny_sam(0), tiny_sam(1)
    data = {"a": TinySamples("a", 3)}

    def run(place: str) -> mp.Statistics:
        return mp.calibrate(model, reference, data, 3, cache_dir=tmp_path / place, batch_size=2, progress=False)

    expected = run("plain")
    with checkpointing(model, reference):
        got = run("recomputed")
    layer = blocks_of(model)[1].layer_names["lin1"]
    for one, other in zip(expected.fisher("a", layer, lambda_b=5.0), got.fisher("a", layer, lambda_b=5.0), strict=True):
        assert torch.equal(one, other)


def test_training_is_the_same(tmp_path: Path) -> None:
    def batches(step: int) -> Batch:
        images, boxes, masks = tiny_batch(2, seed=step)
        return Batch(images, boxes, masks)

    losses = []
    for on in (False, True):
        model = set_checkpointing(tiny_sam(), on)
        settings = TrainSettings(steps=3, learning_rate=1e-3, warmup=1, precision="fp32")
        losses.append(train(model, batches, settings, tmp_path / f"{on}.pt").losses)
    assert losses[0] == losses[1]


def kept_bytes(model: nn.Module) -> int:
    """Bytes of what autograd keeps of a watched forward pass, parameters apart."""
    sizes: dict[int, tuple[torch.Tensor, int]] = {}
    own = {p.untyped_storage().data_ptr() for p in model.parameters()}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            sizes[storage.data_ptr()] = (tensor, storage.nbytes())
        return tensor

    layers = {block.layer_names[role]: layer for block in blocks_of(model) for role, layer in block.layers.items()}
    with watching(model, layers, lambda *_: None), saved_tensors_hooks(pack, lambda tensor: tensor):
        encoder_of(model)(tiny_batch(2)[0])
    return sum(size for _, size in sizes.values())


def test_keeps_what_enters_the_blocks_and_no_more() -> None:
    model = tiny_sam()
    plain = kept_bytes(model)
    set_checkpointing(model)
    # the taps keep inputs of layers as autograd does: recomputed as well, though hooks caught them
    entering = len(blocks_of(model)) * 2 * 36 * 24 * 4
    neck = 2 * 36 * 16 * 4 * 16  # its convolutions and norms, at most
    assert kept_bytes(model) < entering + neck < plain / 3


def test_leaves_the_model_as_it_was() -> None:
    model, kinds = tiny_sam(), [type(m) for m in tiny_sam().modules()]
    keys = list(model.state_dict())
    with checkpointing(model):
        assert is_checkpointing(model)
        assert list(model.state_dict()) == keys
        copied = copy.deepcopy(model)
    with pytest.raises(RuntimeError, match="inside"), checkpointing(model):
        raise RuntimeError("inside")
    assert [type(m) for m in model.modules()] == kinds
    assert is_checkpointing(copied)
    assert not is_checkpointing(set_checkpointing(copied, False))
    set_checkpointing(model)
    with checkpointing(model), checkpointing(model):
        pass
    assert is_checkpointing(model)
    with checkpointing(copied, on=False):
        assert not is_checkpointing(copied)
