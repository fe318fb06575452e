"""Scores and plans in the forms that other pruning code has: scores of single weights, a table, masks."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from .._support.errors import CriterionError
from ..calibration.statistics import Statistics
from ..calibration.views import Pair
from ..data.splits.split import Data
from ..models.groups import StructuredGroup, groups_of
from .criterion import Criterion
from .inputs import Inputs, images_of
from .recipes import Scorer, scored
from .units import unit_sums


@dataclass(frozen=True, eq=False)
class WeightScores(Criterion):
    """Scores of single parameters, from any other tool, summed over what goes with a unit.

    S(g) = sum_{j in g} s_j, over rows (and bias entries) of its input layers and columns of its output layer.

    Args:
        scores: Names as `model.named_parameters()` gives them to tensors or NumPy arrays of the parameters' shapes;
            higher is kept. Biases may be left out, other parameters are not read.

    Raises:
        CriterionError: A weight without scores, or scores of another shape or that are no numbers, when a unit is
            scored.
    """

    scores: Mapping[str, Tensor | np.ndarray[Any, Any]] = field(repr=False)

    def score(self, group: StructuredGroup) -> Tensor:
        return unit_sums(group, self._of_layer)

    def _of_layer(self, layer: nn.Linear, name: str) -> Pair:
        weight = self._of_parameter(layer.weight, f"{name}.weight")
        if weight is None:
            raise CriterionError(f"there are no scores of {name}.weight: expected one for each of its elements")
        return weight, None if layer.bias is None else self._of_parameter(layer.bias, f"{name}.bias")

    def _of_parameter(self, parameter: Tensor, name: str) -> Tensor | None:
        if name not in self.scores:
            return None
        try:
            found = torch.as_tensor(self.scores[name])
        except (TypeError, ValueError, RuntimeError) as error:
            kind = type(self.scores[name]).__name__
            raise CriterionError(
                f"the scores of {name} are {kind}, expected a tensor or an array of numbers"
            ) from error
        if found.shape != parameter.shape:
            raise CriterionError(
                f"the scores of {name} have shape {tuple(found.shape)}, expected {tuple(parameter.shape)}"
            )
        return found.detach().to("cpu", torch.float64)


def scores_frame(
    criterion: Scorer,
    model: nn.Module,
    mlp_group_size: int = 1,
    *,
    statistics: Statistics | None = None,
    reference: nn.Module | None = None,
    data: Data | None = None,
    seed: int = 0,
) -> pd.DataFrame:
    """Score every unit of a model into a table.

    Args:
        criterion: What scores: a name, or anything else that `plan` takes.
        model: A model of a known family.
        mlp_group_size: Neurons that go together.
        statistics, reference, data, seed: As for `plan`; what a criterion object needs it has already.

    Returns:
        A row a unit: `block`, `family` (`heads` or `neurons`), `unit`, `score` (higher is kept), `cost_params`
        (parameters that leave with it).

    Raises:
        RegistryError: An unknown name.
        CriterionError: The criterion lacks an input, or its scores cannot be used.
        StatisticsError: The statistics do not fit.
    """
    inputs = Inputs(model, reference, images_of(data), statistics, seed)
    _, scores = scored(criterion, inputs, mlp_group_size)
    parts = [
        pd.DataFrame(
            {
                "block": group.block,
                "family": group.family,
                "unit": range(group.n_units),
                "score": scores[group.block, group.family].numpy(),
                "cost_params": group.cost_params,
            }
        )
        for group in groups_of(model, mlp_group_size)
    ]
    return pd.concat(parts, ignore_index=True)
