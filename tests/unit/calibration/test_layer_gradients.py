import pytest
import torch
from tiny import tiny_batch, tiny_sam
from torch import nn

from medcore_prune._support.errors import StatisticsError
from medcore_prune.calibration.collector import prunable_layers
from medcore_prune.calibration.layer_gradients import LayerBatch, watching
from medcore_prune.calibration.sums import Accumulator


def state_of(model: nn.Module) -> tuple[object, ...]:
    """Everything that watching may touch for a while: hooks, modes, flags, gradients."""
    hooks = [
        (len(module._forward_hooks), len(module._forward_pre_hooks), len(module._backward_hooks), module.training)
        for module in model.modules()
    ]
    return hooks, [(parameter.requires_grad, parameter.grad is None) for parameter in model.parameters()]


def weights_of(model: nn.Module) -> list[torch.Tensor]:
    return [parameter.detach().clone() for parameter in model.parameters()]


def test_model_is_left_as_it_was() -> None:
    model = tiny_sam()
    model.train()
    model.mask_decoder.eval()  # type: ignore[union-attr,operator]
    next(iter(prunable_layers(model).values())).weight.requires_grad_(False)
    before, weights = state_of(model), weights_of(model)
    Accumulator(model).add(*tiny_batch(2))
    assert state_of(model) == before
    assert all(torch.equal(one, other) for one, other in zip(weights, weights_of(model), strict=True))


def test_model_is_left_as_it_was_after_an_error() -> None:
    model = tiny_sam()
    before = state_of(model)
    with pytest.raises(RuntimeError, match="boom"), watching(model, prunable_layers(model), lambda *_: None):
        raise RuntimeError("boom")
    assert state_of(model) == before


def test_works_where_gradients_are_off() -> None:
    expected, inside = Accumulator(tiny_sam()), Accumulator(tiny_sam())
    expected.add(*tiny_batch(2))
    with torch.no_grad():
        inside.add(*tiny_batch(2))
    for key, value in expected.sums["fisher"].items():
        assert torch.equal(value, inside.sums["fisher"][key])


def test_per_sample_gradient_by_hand() -> None:
    # one token (1, 2) with gradient 3, and two tokens (1, 0), (0, 1) with gradients 5 and 7
    inputs = torch.tensor([[[1.0, 2.0], [0.0, 0.0]], [[1.0, 0.0], [0.0, 1.0]]])
    gradient = torch.tensor([[[3.0], [0.0]], [[5.0], [7.0]]])
    ((weight, bias),) = LayerBatch(inputs, (gradient,)).per_sample
    assert weight.tolist() == [[[3.0, 6.0]], [[5.0, 7.0]]]
    assert bias.tolist() == [[3.0], [12.0]]


class _Poison(torch.autograd.Function):
    """Identity whose gradient is not finite for one sample."""

    @staticmethod
    def forward(ctx: object, x: torch.Tensor) -> torch.Tensor:
        return x.clone()

    @staticmethod
    def backward(ctx: object, gradient: torch.Tensor) -> torch.Tensor:  # type: ignore[override]
        poisoned = gradient.clone()
        poisoned[1, 0, 0, 0] = torch.inf
        return poisoned


def test_sample_with_a_bad_loss_is_named() -> None:
    model = tiny_sam()
    images, boxes, masks = tiny_batch(3)
    images[2, 0, 0, 0] = torch.nan
    with pytest.raises(StatisticsError, match="the loss of kvasir/c is not finite"):
        Accumulator(model).add(images, boxes, masks, ["kvasir/a", "kvasir/b", "kvasir/c"])


def test_sample_with_a_bad_gradient_is_named() -> None:
    model = tiny_sam()
    model.image_encoder.register_forward_hook(lambda *seen: _Poison.apply(seen[-1]))  # type: ignore[union-attr,operator]
    with pytest.raises(StatisticsError, match="the gradient of kvasir/b is not finite"):
        Accumulator(model).add(*tiny_batch(3), ["kvasir/a", "kvasir/b", "kvasir/c"])
