"""Sensitivity of each block, by which quotas fall (METHOD section 6), from the diagonal or the directional Fisher."""

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import nn

from .._support.errors import StatisticsError
from ..defaults import DEFAULTS
from ..models.families import blocks_of
from ..models.groups import FAMILY_NAMES, groups_of
from .collector import Need
from .statistics import Statistics


def mean_fisher(statistics: Statistics, model: nn.Module, lambda_b: float) -> list[float]:
    """Mean diagonal Fisher of each block's prunable parameters, over data sets.

    s_b = 1/|Theta_b| sum_{j in Theta_b} F_M,j
    """

    views = [statistics.view({dataset: 1.0}, lambda_b) for dataset in statistics.datasets]
    device = next(model.parameters()).device
    # of a model without weights names are read alone
    place = None if device.type == "meta" else device

    def of_block(layer_names: Sequence[str]) -> float:
        # layer by layer, where the model is; the sums of a block are read together
        pairs = (view.layer("fisher", name, device=place) for view in views for name in layer_names)
        found = [(tensor.sum(), tensor.numel()) for pair in pairs for tensor in pair]
        sums, counts = zip(*found, strict=True)
        return float(sum(torch.stack(sums).tolist())) / sum(counts)

    return [of_block(list(block.layer_names.values())) for block in blocks_of(model)]


def mean_directional(statistics: Statistics, model: nn.Module, lambda_b: float) -> list[float]:
    """Mean removal cost of each block's units, relative to the other blocks', over data sets.

        s_b = 1/2 sum_f m_bf / mean_b(m_bf)

    where m_bf is the mean of E[d(u)^2] over the units of family f in block b and over data sets. Heads and neurons
    count alike: a head's slope is far steeper, and there are far fewer heads.
    """
    sensitivity = [0.0] * len(blocks_of(model))
    for family in FAMILY_NAMES:
        groups = [group for group in groups_of(model) if group.family == family]
        means = [_mean_square(statistics, group.name_out, lambda_b) for group in groups]
        overall = sum(means) / len(means)
        for group, mean in zip(groups, means, strict=True):
            sensitivity[group.block] += mean / overall / len(FAMILY_NAMES) if overall > 0 else 0.0
    return sensitivity


def _mean_square(statistics: Statistics, layer_name: str, lambda_b: float) -> float:
    datasets = statistics.datasets
    found = [statistics.directional(dataset, layer_name, "zero", lambda_b).double().mean() for dataset in datasets]
    return float(sum(found)) / len(found)


SENSITIVITIES: Mapping[Need, Callable[[Statistics, nn.Module, float], list[float]]] = {
    Need.FISHER: mean_fisher,
    Need.DIRECTIONAL_ZERO: mean_directional,
}


def block_sensitivity(
    statistics: Statistics, model: nn.Module, lambda_b: float = DEFAULTS.lambda_b, source: Need = Need.FISHER
) -> list[float]:
    """Sensitivity s_b of each block, by which quotas fall (METHOD section 6).

    Args:
        statistics: What calibration collected.
        model: The adapted model, for the names of its layers.
        lambda_b: Weight of the boundary band.
        source: `Need.FISHER` for the mean Fisher of a block's parameters, `Need.DIRECTIONAL_ZERO` for the mean
            removal cost of its units.

    Returns:
        One non-negative number a block; the scale means nothing.

    Raises:
        StatisticsError: The source was not collected, or says nothing of blocks.
    """
    if source not in SENSITIVITIES:
        raise StatisticsError(f"no block sensitivity from '{source}': expected one of {', '.join(SENSITIVITIES)}")
    statistics.require([source])
    return SENSITIVITIES[source](statistics, model, lambda_b)
