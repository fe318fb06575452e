"""Everything that calibration can collect, by name, and the two collectors of sums shaped like the weights."""

from collections.abc import Iterator, Mapping
from typing import ClassVar

from torch import Tensor, nn

from .collector import LINEAR, LOSSES, SQUARES, Collector, squares
from .directional import DirectionalReset, DirectionalZero
from .encoders import blocks_of
from .gram import Gram, WeightedGram
from .layer_gradients import LayerBatch


def prunable_layers(model: nn.Module) -> dict[str, nn.Linear]:
    """The linear layers that pruning cuts, by qualified name, shallowest block first."""
    return {block.layer_names[role]: layer for block in blocks_of(model) for role, layer in block.layers.items()}


class _LikeWeights(Collector):
    """Sums shaped like every prunable layer's weight and bias, `<layer>.weight` and `<layer>.bias`."""

    @classmethod
    def shapes(cls, model: nn.Module) -> dict[str, tuple[int, ...]]:
        return {
            f"{layer_name}.{kind}": tuple(parameter.shape)
            for layer_name, layer in prunable_layers(model).items()
            for kind, parameter in layer.named_parameters(recurse=False)
        }


class Fisher(_LikeWeights):
    """sum_b g_i g_i, and sum_b 2 g_i g_j for i < j: squares of every sample's own gradient (Eq. 10)."""

    powers = SQUARES

    def contribute(self, layer_name: str, batch: LayerBatch) -> Iterator[tuple[str, Tensor]]:
        for kind, values in zip(("weight", "bias"), zip(*batch.per_sample, strict=True), strict=True):
            for name, value in squares(values):
                yield f"{name}/{layer_name}.{kind}", value


class Gradient(_LikeWeights):
    """sum_b g_i, whose mean is the gradient of the mean loss."""

    powers = LINEAR

    def contribute(self, layer_name: str, batch: LayerBatch) -> Iterator[tuple[str, Tensor]]:
        for name, (weight, bias) in zip(LOSSES, batch.per_sample, strict=False):
            yield f"{name}/{layer_name}.weight", weight.sum(0)
            yield f"{name}/{layer_name}.bias", bias.sum(0)


class Weights(_LikeWeights):
    """Layout of a copy of the prunable weights, which is stored beside the sums; nothing is added to it."""

    powers: ClassVar[Mapping[str, int]] = {"value": 0}

    def contribute(self, layer_name: str, batch: LayerBatch) -> Iterator[tuple[str, Tensor]]:
        yield from ()


COLLECTORS: dict[str, type[Collector]] = {
    "fisher": Fisher,
    "gradient": Gradient,
    "directional_zero": DirectionalZero,
    "directional_reset": DirectionalReset,
    "gram": Gram,
    "weighted_gram": WeightedGram,
}
"""Open to more: a subclass of `Collector` under a name of its own; a criterion reads its sums by that name."""


def layout_of(kind: str) -> type[Collector] | None:
    """Return the class that says how statistics of a kind are laid out; None where no such collector is known."""
    return Weights if kind == "weights" else COLLECTORS.get(kind)
