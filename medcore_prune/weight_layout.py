"""The layers that pruning cuts, and statistics that are shaped like their weights."""

from collections.abc import Iterator, Mapping
from typing import ClassVar

from torch import Tensor, nn

from .collector import Collector
from .layer_gradients import LayerBatch
from .models.families import blocks_of


def prunable_layers(model: nn.Module) -> dict[str, nn.Linear]:
    """The linear layers that pruning cuts, by qualified name, shallowest block first."""
    return {block.layer_names[role]: layer for block in blocks_of(model) for role, layer in block.layers.items()}


class LikeWeights(Collector):
    """Sums shaped like every prunable layer's weight and bias, `<layer>.weight` and `<layer>.bias`."""

    @classmethod
    def shapes(cls, model: nn.Module) -> dict[str, tuple[int, ...]]:
        return {
            f"{layer_name}.{kind}": tuple(parameter.shape)
            for layer_name, layer in prunable_layers(model).items()
            for kind, parameter in layer.named_parameters(recurse=False)
        }


class Weights(LikeWeights):
    """Layout of a copy of the prunable weights, which is stored beside the sums; nothing is added to it."""

    powers: ClassVar[Mapping[str, int]] = {"value": 0}

    def contribute(self, layer_name: str, batch: LayerBatch) -> Iterator[tuple[str, Tensor]]:
        yield from ()
