"""Parameters and statistics of a group, element by element, as criteria combine them."""

from collections.abc import Callable

from torch import Tensor, nn

from .._support.errors import CriterionError
from ..calibration.views import Pair
from ..models.groups import StructuredGroup


def parameters(layer: nn.Linear) -> Pair:
    """Return a layer's weight and bias as float64 where they are, apart from the graph."""
    if layer.weight.is_meta:
        raise CriterionError("a model on the meta device has no weights to score: load a checkpoint")
    bias = None if layer.bias is None else layer.bias.detach().double()
    return layer.weight.detach().double(), bias


def combine(function: Callable[..., Tensor], *pairs: Pair) -> Pair:
    """Apply an elementwise function to weights and to biases; a bias that some pair lacks is left out."""
    weights, biases = zip(*pairs, strict=True)
    return function(*weights), None if any(bias is None for bias in biases) else function(*biases)


LayerValues = Callable[[nn.Linear, str], Pair]
"""A layer and its name to two tensors shaped like its weight and bias."""


def unit_sums(group: StructuredGroup, values: LayerValues) -> Tensor:
    """Sum elementwise quantities over each unit: rows and biases of its inputs, columns of `layer_out`; (n_units,)."""
    parts = []
    for part in group.inputs:
        weight, bias = values(part.layer, part.name)
        rows = weight.sum(1) if bias is None else weight.sum(1) + bias
        parts.append(rows[part.rows].sum(1))
    weight_out, _ = values(group.layer_out, group.name_out)
    return sum(parts[1:], start=parts[0]) + weight_out.sum(0)[group.out_cols].sum(1)
