"""The diagonal Fisher."""

from collections.abc import Iterator

from torch import Tensor

from ..collector import SQUARES, squares
from ..collector_registry import register_collector
from ..layer_gradients import LayerBatch
from ..weight_layout import LikeWeights


@register_collector("fisher")
class Fisher(LikeWeights):
    """sum_b g_i g_i, and sum_b 2 g_i g_j for i < j: squares of every sample's own gradient (Eq. 10)."""

    powers = SQUARES

    def contribute(self, layer_name: str, batch: LayerBatch) -> Iterator[tuple[str, Tensor]]:
        for kind, values in zip(("weight", "bias"), zip(*batch.per_sample, strict=True), strict=True):
            for name, value in squares(values):
                yield f"{name}/{layer_name}.{kind}", value
