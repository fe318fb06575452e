"""Parameters and statistics of a group, element by element, as criteria combine them."""

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from ._support.errors import CriterionError, StatisticsError
from .aggregation import Population
from .defaults import DEFAULTS
from .models.groups import StructuredGroup

if TYPE_CHECKING:
    from .needs import Role
    from .statistics import Statistics

Pair = tuple[Tensor, Tensor | None]
"""A layer's weight and bias, or two tensors shaped like them."""


def parameters(layer: nn.Linear) -> Pair:
    """Return a layer's weight and bias as float64 on the CPU, apart from the graph.

    Raises:
        CriterionError: The layer has no values, on the meta device.
    """
    if layer.weight.is_meta:
        raise CriterionError("a model on the meta device has no weights to score: load a checkpoint")
    bias = None if layer.bias is None else layer.bias.detach().to("cpu", torch.float64)
    return layer.weight.detach().to("cpu", torch.float64), bias


def fisher(
    statistics: "Statistics",
    population: Population,
    layer: nn.Linear,
    layer_name: str,
    which: "Role" = "adapted",
    lambda_b: float = DEFAULTS.lambda_b,
) -> Pair:
    """Diagonal Fisher of a layer over a population: the mean over all its samples (Eq. 10).

    Args:
        statistics: What calibration collected.
        population: Data sets and their shares.
        layer: The layer, to check that the statistics still fit it.
        layer_name: Its qualified name in the model.
        which: `"adapted"` for F_M, `"reference"` for F_S.
        lambda_b: Weight of the boundary band.

    Returns:
        Float64 tensors shaped like weight and bias.

    Raises:
        StatisticsError: Not collected, or of another shape.
    """

    def read(dataset: str) -> tuple[Tensor, Tensor]:
        return statistics.fisher(dataset, layer_name, which=which, lambda_b=lambda_b)

    return _fitting(_mixed(read, population), layer, layer_name)


def mean_gradient(
    statistics: "Statistics", population: Population, layer: nn.Linear, layer_name: str, lambda_b: float
) -> Pair:
    """Gradient of the mean loss of a population for a layer; arguments and errors as for `fisher`."""

    def read(dataset: str) -> tuple[Tensor, Tensor]:
        return statistics.mean_gradient(dataset, layer_name, lambda_b=lambda_b)

    return _fitting(_mixed(read, population), layer, layer_name)


def reference_parameters(statistics: "Statistics", layer: nn.Linear, layer_name: str) -> Pair:
    """Return the reference's weight and bias of a layer, theta_S of Eq. 12; errors as for `fisher`."""
    weight, bias = statistics.reference_weights(layer_name)
    return _fitting((weight.double(), bias.double()), layer, layer_name)


def _mixed(read: Callable[[str], tuple[Tensor, Tensor]], population: Population) -> Pair:
    parts = [(share, read(dataset)) for dataset, share in population.shares.items()]
    weight = sum((share * pair[0].double() for share, pair in parts), start=torch.zeros((), dtype=torch.float64))
    bias = sum((share * pair[1].double() for share, pair in parts), start=torch.zeros((), dtype=torch.float64))
    return weight, bias


def _fitting(values: Pair, layer: nn.Linear, layer_name: str) -> Pair:
    if values[0].shape != layer.weight.shape:
        raise StatisticsError(
            f"{layer_name} has shape {tuple(layer.weight.shape)}, its statistics {tuple(values[0].shape)}: "
            "the model was cut since; calibrate it again"
        )
    return values


def combine(function: Callable[..., Tensor], *pairs: Pair) -> Pair:
    """Apply an elementwise function to weights and to biases; a bias that some pair lacks is left out."""
    weights, biases = zip(*pairs, strict=True)
    return function(*weights), None if any(bias is None for bias in biases) else function(*biases)


LayerValues = Callable[[nn.Linear, str], Pair]
"""A layer and its name to two tensors shaped like its weight and bias."""


def unit_sums(group: StructuredGroup, values: LayerValues) -> Tensor:
    """Sum elementwise quantities over each unit: rows and biases of its inputs, columns of `layer_out`.

    Args:
        group: The units.
        values: The quantities of a layer.

    Returns:
        (n_units,) float64 on the CPU.
    """
    parts = []
    for part in group.inputs:
        weight, bias = values(part.layer, part.name)
        rows = weight.sum(1) if bias is None else weight.sum(1) + bias
        parts.append(rows[part.rows].sum(1))
    weight_out, _ = values(group.layer_out, group.name_out)
    return sum(parts[1:], start=parts[0]) + weight_out.sum(0)[group.out_cols].sum(1)
