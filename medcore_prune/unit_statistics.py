"""Statistics of whole units, and of the inputs that a unit's columns read, as criteria combine them."""

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ._support.errors import StatisticsError
from .aggregation import Population
from .defaults import DEFAULTS
from .models.groups import StructuredGroup

if TYPE_CHECKING:
    from .collectors.directional import Direction
    from .statistics import Statistics


def directional(
    statistics: "Statistics",
    population: Population,
    group: StructuredGroup,
    direction: "Direction",
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
    statistics: "Statistics",
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
