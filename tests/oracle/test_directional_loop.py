"""Directional Fisher against the slow way: one sample at a time, autograd's own gradient times the step."""

import copy
from collections.abc import Callable
from functools import cache

import pytest
import torch
from tiny import tiny_batch, tiny_sam
from torch import Tensor, nn

from medcore_prune.calibration.sums import Accumulator
from medcore_prune.data.masks import band_radius, boundary_band
from medcore_prune.models.groups import StructuredGroup, groups_of
from medcore_prune.models.losses import boundary_loss
from medcore_prune.models.protocol import input_logits, low_res_logits

COUNT = 3
LAMBDAS = (0.0, 5.0)
Step = Callable[[StructuredGroup, int], dict[str, Tensor]]


@cache
def sam(seed: int) -> nn.Module:
    """float64 where segment-anything allows: its prompt encoder computes in float32 whatever its parameters are."""
    model = tiny_sam(seed)
    model.image_encoder.to(torch.float64)  # type: ignore[union-attr,operator]
    model.mask_decoder.to(torch.float64)  # type: ignore[union-attr,operator]
    return model


@cache
def reference() -> nn.Module:
    """A model a small step away, as a fine-tuned one is from where it started."""
    model, other = copy.deepcopy(sam(0)), sam(1)
    with torch.no_grad():
        for mine, theirs in zip(model.parameters(), other.parameters(), strict=True):
            mine.add_(0.1 * (theirs - mine))
    return model


@cache
def data() -> tuple[Tensor, Tensor, Tensor]:
    images, boxes, masks = tiny_batch(COUNT)
    return images.double(), boxes + torch.arange(COUNT)[:, None], masks


def zero_step(group: StructuredGroup, unit: int) -> dict[str, Tensor]:
    """theta on the unit's columns of the second layer, zero elsewhere."""
    weight = group.layer_out.weight.detach()
    step = torch.zeros_like(weight)
    step[:, group.out_cols[unit]] = weight[:, group.out_cols[unit]]
    return {f"{group.name_out}.weight": step}


def reset_step(group: StructuredGroup, unit: int) -> dict[str, Tensor]:
    """theta_M - theta_S on the unit's rows and biases of the first layer and columns of the second."""
    theirs = reference()
    keys = {f"{group.inputs[0].name}.weight", f"{group.inputs[0].name}.bias", f"{group.name_out}.weight"}
    adapted = {**sam(0).state_dict()}
    steps = {key: torch.zeros_like(adapted[key]) for key in keys}
    rows, columns = group.inputs[0].rows[unit], group.out_cols[unit]
    for key, step in steps.items():
        difference = adapted[key] - theirs.state_dict()[key]
        if key.startswith(group.inputs[0].name):
            step[rows] = difference[rows]
        else:
            step[:, columns] = difference[:, columns]
    return steps


STEPS: dict[str, Step] = {"zero": zero_step, "reset": reset_step}


@cache
def gradient(sample: int, lambda_b: float) -> dict[str, Tensor]:
    """Autograd's own gradient of one sample's boundary-aware loss, by parameter name."""
    model = copy.deepcopy(sam(0))
    images, boxes, masks = (part[sample : sample + 1] for part in data())
    logits = input_logits(low_res_logits(model, images, boxes), images.shape[-1])
    band = boundary_band(masks, band_radius(images.shape[-1]))
    boundary_loss(logits, masks, band, lambda_b).sum().backward()
    return {name: p.grad for name, p in model.named_parameters() if p.grad is not None}


def derivative(step: dict[str, Tensor], sample: int, lambda_b: float) -> float:
    """Directional derivative of one sample's loss: gradient times step, over all parameters."""
    slopes = gradient(sample, lambda_b)
    return sum(float((slopes[name] * part).sum()) for name, part in step.items())


@cache
def collected(batch_size: int) -> dict[str, dict[str, Tensor]]:
    sums = Accumulator(sam(0), ("directional_zero", "directional_reset"), reference=reference())
    for start in range(0, COUNT, batch_size):
        sums.add(*(part[start : start + batch_size] for part in data()))
    return sums.sums


@pytest.mark.parametrize("direction", STEPS)
@pytest.mark.parametrize("family", ["heads", "neurons"])
def test_squared_slopes_of_every_unit_and_lambda(direction: str, family: str) -> None:
    # block 0 attends in windows, whose last ones are padded, and block 1 globally
    for group in groups_of(sam(0)):
        if group.family != family:
            continue
        for unit in range(0, group.n_units, max(1, group.n_units // 6)):
            step = STEPS[direction](group, unit)
            for lambda_b in LAMBDAS:
                expected = sum(derivative(step, sample, lambda_b) ** 2 for sample in range(COUNT))
                for batch_size in (1, 2):
                    sums = collected(batch_size)[f"directional_{direction}"]
                    powers = {"plain_plain": 1.0, "plain_band": lambda_b, "band_band": lambda_b**2}
                    keys = {name: f"{name}/{group.name_out}.units" for name in powers}
                    got = sum(factor * float(sums[keys[name]][unit]) for name, factor in powers.items())
                    assert got == pytest.approx(expected, rel=1e-7), (group.block, unit, lambda_b)
                    assert got > 0


def test_a_step_is_really_taken_along_the_direction() -> None:
    """The slope predicts what a small part of the removal does to the loss."""
    group, unit, part = groups_of(sam(0))[4], 2, 1e-4
    losses = []
    for share in (-part, part):
        model = copy.deepcopy(sam(0))
        columns = group.out_cols[unit]
        with torch.no_grad():
            model.get_submodule(group.name_out).weight[:, columns] *= 1 - share
            images, boxes, masks = (each[:1] for each in data())
            logits = input_logits(low_res_logits(model, images, boxes), images.shape[-1])
            losses.append(float(boundary_loss(logits, masks, boundary_band(masks, band_radius(48)), 5.0)))
    slope = -(losses[1] - losses[0]) / (2 * part)
    assert slope == pytest.approx(derivative(zero_step(group, unit), 0, 5.0), rel=1e-4)


def test_the_mask_slope_of_a_relu_neuron_is_that_of_its_rows() -> None:
    """Columns alone: theta dL/dtheta over rows and bias is the same number again, so counting both would double it."""
    layers = nn.Sequential(nn.Linear(5, 7), nn.ReLU(), nn.Linear(7, 3)).double()
    inputs = torch.randn(11, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    layers(inputs).square().sum().backward()
    first, second = layers[0], layers[2]
    rows = (first.weight * first.weight.grad).sum(1) + first.bias * first.bias.grad  # type: ignore[operator]
    columns = (second.weight * second.weight.grad).sum(0)  # type: ignore[operator]
    torch.testing.assert_close(rows, columns)
