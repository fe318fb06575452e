"""The diagonal Fisher."""

from collections.abc import Iterator

from torch import Tensor

from ..collector import LINEAR, LOSSES, SQUARES, LikeWeights, register_collector, squares
from ..layer_gradients import LayerBatch


@register_collector("fisher")
class Fisher(LikeWeights):
    """sum_b g_i g_i, and sum_b 2 g_i g_j for i < j: squares of every sample's own gradient (Eq. 10)."""

    powers = SQUARES

    def contribute(self, layer_name: str, batch: LayerBatch) -> Iterator[tuple[str, Tensor]]:
        for kind, values in zip(("weight", "bias"), zip(*batch.per_sample, strict=True), strict=True):
            for name, value in squares(values):
                yield f"{name}/{layer_name}.{kind}", value


@register_collector("gradient")
class Gradient(LikeWeights):
    """sum_b g_i, whose mean is the gradient of the mean loss."""

    powers = LINEAR

    def contribute(self, layer_name: str, batch: LayerBatch) -> Iterator[tuple[str, Tensor]]:
        for name, (weight, bias) in zip(LOSSES, batch.per_sample, strict=False):
            yield f"{name}/{layer_name}.weight", weight.sum(0)
            yield f"{name}/{layer_name}.bias", bias.sum(0)
