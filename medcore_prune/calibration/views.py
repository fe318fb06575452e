"""Statistics as criteria combine them: element by element, of whole units, of the inputs that a unit's columns read."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from .._support.errors import StatisticsError
from ..defaults import DEFAULTS
from ..models.groups import StructuredGroup
from .collector import Role
from .collectors.directional import Direction
from .statistics import Statistics


@dataclass(frozen=True)
class Population:
    """Data sets that are scored as one.

    Attributes:
        shares: Data set to its share; the shares sum to 1.
        weight: w_k of Eq. 13.
    """

    shares: Mapping[str, float]
    weight: float


def directional(
    statistics: Statistics,
    population: Population,
    group: StructuredGroup,
    direction: Direction,
    lambda_b: float = DEFAULTS.lambda_b,
) -> Tensor:
    """Mean squared slope of each unit over a population.

    Args:
        statistics: What calibration collected.
        population: Data sets and their shares.
        group: The units.
        direction: `"zero"` or `"reset"`.
        lambda_b: Weight of the boundary band.

    Returns:
        (n_units,) float64, non-negative.

    Raises:
        StatisticsError: Not collected, or for other units: squares of single neurons say nothing about neurons that
            go together, whose slopes would have to be added up before they are squared.
    """
    parts = [
        share * statistics.directional(dataset, group.name_out, direction, lambda_b).double()
        for dataset, share in population.shares.items()
    ]
    found = torch.stack(parts).sum(0)
    if found.shape != (group.n_units,):
        where = f"{group.n_units} {group.family} in block {group.block}"
        why = (
            f"directional statistics are of single neurons, not of {group.unit_size} together: use mlp_group_size 1, "
            "or a criterion by the diagonal Fisher"
            if group.family == "neurons" and group.unit_size > 1
            else "the model was cut since; calibrate it again"
        )
        raise StatisticsError(f"{where}, directional statistics of {len(found)}: {why}")
    return found


def gram(
    statistics: Statistics,
    population: Population,
    group: StructuredGroup,
    kind: str = "gram",
    lambda_b: float = DEFAULTS.lambda_b,
) -> Tensor:
    """Gram matrix of the inputs of a group's `layer_out` over a population, summed over the tokens of an image.

    Args:
        statistics: What calibration collected.
        population: Data sets and their shares.
        group: The units whose columns read these inputs.
        kind: `"gram"`, or `"weighted_gram"` for tokens weighed by their gradient.
        lambda_b: Weight of the boundary band, for `"weighted_gram"`.

    Returns:
        (in, in) float64, positive semi-definite but for rounding.

    Raises:
        StatisticsError: Not collected, or of another size.
    """
    parts = [
        share * statistics.mean(kind, dataset, f"{group.name_out}.gram", lambda_b).double()
        for dataset, share in population.shares.items()
    ]
    found = torch.stack(parts).sum(0)
    inputs = group.layer_out.in_features
    if found.shape != (inputs, inputs):
        raise StatisticsError(
            f"{group.name_out} reads {inputs} inputs, its statistics {len(found)}: "
            "the model was cut since; calibrate it again"
        )
    return found


Pair = tuple[Tensor, Tensor | None]
"""A layer's weight and bias, or two tensors shaped like them."""


def fisher(
    statistics: Statistics,
    population: Population,
    layer: nn.Linear,
    layer_name: str,
    which: Role = "adapted",
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
    statistics: Statistics, population: Population, layer: nn.Linear, layer_name: str, lambda_b: float
) -> Pair:
    """Gradient of the mean loss of a population for a layer; arguments and errors as for `fisher`."""

    def read(dataset: str) -> tuple[Tensor, Tensor]:
        return statistics.mean_gradient(dataset, layer_name, lambda_b=lambda_b)

    return _fitting(_mixed(read, population), layer, layer_name)


def reference_parameters(statistics: Statistics, layer: nn.Linear, layer_name: str) -> Pair:
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
