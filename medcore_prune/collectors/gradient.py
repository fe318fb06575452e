"""The gradient of the mean loss."""

from collections.abc import Iterator

from torch import Tensor

from ..collector import LINEAR, LOSSES
from ..collector_registry import register_collector
from ..layer_gradients import LayerBatch
from ..weight_layout import LikeWeights


@register_collector("gradient")
class Gradient(LikeWeights):
    """sum_b g_i, whose mean is the gradient of the mean loss."""

    powers = LINEAR

    def contribute(self, layer_name: str, batch: LayerBatch) -> Iterator[tuple[str, Tensor]]:
        for name, (weight, bias) in zip(LOSSES, batch.per_sample, strict=False):
            yield f"{name}/{layer_name}.weight", weight.sum(0)
            yield f"{name}/{layer_name}.bias", bias.sum(0)
