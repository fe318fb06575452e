"""Models whose parts do not run what their classes say are refused before anything is cut or measured."""

import copy
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import MethodType
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from segment_anything.modeling.image_encoder import Attention
from tiny import tiny_batch, tiny_sam
from tiny_samples import TinySamples
from torch import Tensor, nn
from torch.distributed.algorithms._checkpoint.checkpoint_wrapper import checkpoint_wrapper
from torch.utils.checkpoint import checkpoint

import medcore_prune as mp
from medcore_prune._support.errors import StatisticsError, SurgeryError
from medcore_prune.calibration.interventions import exact_interventions

DATA = {"a": TinySamples("a", 2)}


def compiled_forward(model: Any) -> None:
    model.image_encoder.forward = torch.compile(model.image_encoder.forward, backend="eager")


def checkpointed_blocks(model: Any) -> None:
    for block in model.image_encoder.blocks:
        inner = block.forward
        block.forward = lambda x, inner=inner: checkpoint(inner, x, use_reentrant=False)


def bound_forward(model: Any) -> None:
    attention = model.image_encoder.blocks[2].attn
    attention.forward = MethodType(Attention.forward, attention)


def decoder_method(model: Any) -> None:
    model.mask_decoder.predict_masks = partial(model.mask_decoder.predict_masks)


def neck_in_place(model: Any) -> None:
    model.image_encoder.neck.compile(backend="eager")


def compiled_block(model: Any) -> None:
    model.image_encoder.blocks[1] = torch.compile(model.image_encoder.blocks[1], backend="eager")


def wrapped_block(model: Any) -> None:
    model.image_encoder.blocks[0] = checkpoint_wrapper(model.image_encoder.blocks[0])


def in_inference_mode(model: Any) -> None:
    layer = model.image_encoder.blocks[0].attn.qkv
    with torch.inference_mode():
        layer.weight = nn.Parameter(layer.weight.clone(), requires_grad=False)


def hook_with_old_weights(model: Any) -> None:
    layer = model.image_encoder.blocks[0].attn.proj
    weight, bias = layer.weight.detach().clone(), layer.bias.detach().clone()
    layer.register_forward_hook(lambda _m, args, _o: F.linear(args[0], weight, bias))


def hook_with_an_old_block(model: Any) -> None:
    old = copy.deepcopy(model.image_encoder.blocks[3])
    model.image_encoder.blocks[3].register_forward_pre_hook(lambda _m, args: (old(args[0]),))


FORWARDS = [
    compiled_forward,
    checkpointed_blocks,
    bound_forward,
    decoder_method,
    neck_in_place,
    compiled_block,
    wrapped_block,
    in_inference_mode,
]
HOOKS = [hook_with_old_weights, hook_with_an_old_block]


def altered(change: Callable[[Any], None]) -> nn.Module:
    change(model := tiny_sam())
    return model


def masks(model: nn.Module, plan: mp.Plan) -> None:
    with mp.masked(model, plan):
        pass


def traces(model: nn.Module, _plan: mp.Plan) -> None:
    with mp.traceable(model):
        pass


CUTTING: list[Callable[[nn.Module, mp.Plan], object]] = [
    mp.prune,
    partial(mp.prune, inplace=True),
    masks,
    traces,
    lambda model, plan: mp.verify(model, plan, tiny_batch()[0]),
    lambda model, plan: mp.correct(mp.prune(tiny_sam(), plan), model, DATA, progress=False),
    lambda model, plan: mp.correct(model, tiny_sam(), DATA, progress=False),
    lambda model, plan: mp.searched_plan(model, "h50_m50", "magnitude", data=DATA, progress=False),
    lambda model, plan: mp.automatic_plan(model, "params=30%", "magnitude", data=DATA, progress=False),
]
RUNNING: list[Callable[[nn.Module, mp.Plan], object]] = [
    lambda model, plan: mp.calibrate(model, data=DATA, progress=False),
    lambda model, plan: mp.calibrate(tiny_sam(), model, DATA, progress=False),
    lambda model, plan: mp.calibration_estimate(model),
    lambda model, plan: exact_interventions(model, mp.groups_of(model)[:1], {}, progress=False),
    lambda model, plan: mp.recover(mp.prune(tiny_sam(), plan), model, DATA, progress=False),
    lambda model, plan: mp.recover(model, tiny_sam(), DATA, progress=False),
    lambda model, plan: mp.cascade(model, "h50_m50", "magnitude", data=DATA, progress=False),
    lambda model, plan: mp.adapt(model, DATA, {}, mp.AdaptSettings(steps=1), Path("never")),
    lambda model, plan: mp.export_onnx(model, "never.onnx"),
]


@pytest.mark.parametrize("change", FORWARDS)
def test_whatever_replaces_a_forward_is_refused_by_every_function(change: Callable[[Any], None]) -> None:
    plan = mp.make_plan(tiny_sam(), "h50_m50")
    for work in (*CUTTING, *RUNNING):
        model = altered(change)
        before = {name: value.clone() for name, value in model.state_dict().items()}
        with pytest.raises(SurgeryError, match=r"(of its own|compiled|wrapped|inference_mode).*(take it off|give|put)"):
            work(model, plan)
        assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


@pytest.mark.parametrize("change", HOOKS)
def test_hooks_are_refused_where_layers_get_smaller(change: Callable[[Any], None]) -> None:
    plan = mp.make_plan(tiny_sam(), "h50_m50")
    for work in CUTTING:
        with pytest.raises(SurgeryError, match=r"blocks\.\d.* has a forward hook \(hook_with.*remove it first"):
            work(altered(change), plan)


@pytest.mark.parametrize("change", [compiled_forward, checkpointed_blocks, bound_forward, hook_with_old_weights])
def test_a_model_that_only_runs_may_be_altered(change: Callable[[Any], None]) -> None:
    ours, plain = (mp.evaluate(model, DATA, progress=False) for model in (altered(change), tiny_sam()))
    assert ours.equals(plain)


class OwnProduct(Attention):
    """Attention that multiplies by the weight of `proj` itself, so that nothing put on the layer is run."""

    def forward(self, x: Tensor) -> Tensor:
        layer, self.proj = self.proj, nn.Identity()
        try:
            return F.linear(super().forward(x), layer.weight, layer.bias)
        finally:
            self.proj = layer


def by_the_weight(model: Any) -> None:
    model.image_encoder.blocks[1].attn.__class__ = OwnProduct


def test_a_mask_without_effect_is_noticed(tmp_path: Path) -> None:
    model, images = altered(by_the_weight), tiny_batch()[0]
    plan = mp.make_plan(model, "h50_m50", protect=0)
    with pytest.raises(SurgeryError, match=r"the mask of image_encoder\.blocks\.1\.attn\.proj had no effect"):
        mp.verify(model, plan, images)
    with (
        pytest.raises(SurgeryError, match=r"blocks\.1\.attn\.proj had no effect.*that of the whole model"),
        mp.masked(model, plan),
        torch.no_grad(),
    ):
        model.image_encoder(images)  # type: ignore[union-attr,operator]
    with pytest.raises(StatisticsError, match=r"blocks\.1\.attn\.proj did not run"):
        mp.calibrate(model, data=DATA, samples=2, cache_dir=tmp_path, progress=False)
    # nothing ran, and nothing is said
    with mp.masked(model, plan):
        pass
