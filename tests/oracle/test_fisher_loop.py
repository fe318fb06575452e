"""Batched Fisher against the obvious and slow way: one sample at a time, autograd's own gradients, squared."""

from functools import cache

import pytest
import torch
from tiny import tiny_batch, tiny_sam
from torch import Tensor, nn

from medcore_prune.calibration.collector import prunable_layers
from medcore_prune.calibration.sums import Accumulator
from medcore_prune.data.masks import band_radius, boundary_band
from medcore_prune.models.losses import boundary_loss
from medcore_prune.models.protocol import input_logits, low_res_logits

COUNT = 5
LAMBDAS = (0.0, 0.5, 5.0, 40.0)
# the loop and the batch add the same numbers in another order; k's bias has gradients that are zero but for rounding
TOLERANCES = {torch.float64: (1e-9, 1e-12), torch.float32: (1e-5, 1e-6)}


def data(dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
    images, boxes, masks = tiny_batch(COUNT)
    boxes = boxes + torch.arange(COUNT)[:, None]
    masks = torch.stack([mask.roll(index, -1) for index, mask in enumerate(masks)])
    return images.to(dtype), boxes, masks


def model_of(dtype: torch.dtype) -> nn.Module:
    return tiny_sam().to(dtype)


@cache
def loop(lambda_b: float, dtype: torch.dtype) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Sums over samples of squared gradients, and of gradients, by parameter name."""
    model, (images, boxes, masks) = model_of(dtype), data(dtype)
    squares: dict[str, Tensor] = {}
    sums: dict[str, Tensor] = {}
    for i in range(COUNT):
        one = slice(i, i + 1)
        model.zero_grad()
        logits = input_logits(low_res_logits(model, images[one], boxes[one]), images.shape[-1])
        band = boundary_band(masks[one], band_radius(images.shape[-1]))
        boundary_loss(logits, masks[one], band, lambda_b).sum().backward()
        for layer_name in prunable_layers(model):
            for kind, parameter in model.get_submodule(layer_name).named_parameters():
                name, gradient = f"{layer_name}.{kind}", parameter.grad
                squares[name] = squares.get(name, 0) + gradient**2
                sums[name] = sums.get(name, 0) + gradient
    return squares, sums


@cache
def batched(batch_size: int, dtype: torch.dtype) -> Accumulator:
    images, boxes, masks = data(dtype)
    sums = Accumulator(model_of(dtype), ("fisher", "gradient"))
    for start in range(0, COUNT, batch_size):
        part = slice(start, start + batch_size)
        sums.add(images[part], boxes[part], masks[part])
    return sums


def assert_equal(got: Tensor, expected: Tensor, dtype: torch.dtype, name: str) -> None:
    relative, floor = TOLERANCES[dtype]
    excess = (got - expected).abs() - relative * expected.abs() - floor * expected.abs().max()
    assert excess.max() <= 0, name


@pytest.mark.parametrize("dtype", TOLERANCES)
@pytest.mark.parametrize("batch_size", [1, 3, 5])
@pytest.mark.parametrize("lambda_b", LAMBDAS)
def test_fisher_of_every_lambda(lambda_b: float, batch_size: int, dtype: torch.dtype) -> None:
    sums = batched(batch_size, dtype).sums["fisher"]
    expected = loop(lambda_b, dtype)[0]
    assert len(expected) == 4 * 4 * 2
    for name, square in expected.items():
        powers = {"plain_plain": 1.0, "plain_band": lambda_b, "band_band": lambda_b**2}
        got = sum(factor * sums[f"{key}/{name}"] for key, factor in powers.items())
        assert_equal(got, square, dtype, name)


@pytest.mark.parametrize("lambda_b", LAMBDAS)
def test_gradient_of_every_lambda(lambda_b: float) -> None:
    sums = batched(3, torch.float64).sums["gradient"]
    for name, gradient in loop(lambda_b, torch.float64)[1].items():
        got = sums[f"plain/{name}"] + lambda_b * sums[f"band/{name}"]
        assert_equal(got, gradient, torch.float64, name)


def test_fisher_is_not_the_square_of_the_mean() -> None:
    sums = batched(5, torch.float64).sums
    key = "image_encoder.blocks.2.mlp.lin1.weight"
    square_of_sum = sums["gradient"][f"plain/{key}"] ** 2
    assert (square_of_sum - sums["fisher"][f"plain_plain/{key}"]).abs().max() > 0.1 * square_of_sum.max()


def test_one_loss_gives_the_plain_part() -> None:
    plain = Accumulator(model_of(torch.float64), losses=("plain",))
    plain.add(*data(torch.float64))
    both = batched(5, torch.float64).sums["fisher"]
    assert {key.split("/")[0] for key in plain.sums["fisher"]} == {"plain_plain"}
    for key, value in plain.sums["fisher"].items():
        torch.testing.assert_close(value, both[key], rtol=1e-9, atol=1e-18)
