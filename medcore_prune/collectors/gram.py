"""Gram matrices of the inputs of `proj` and `lin2`: what least squares needs to know of them (METHOD section 12).

    G = sum_t x_t x_t^T                     over the tokens of an image, those that only pad a window left out
    G_w = sum_t |dL/dy_t|^2 x_t x_t^T       tokens weighed by the squared gradient of the layer's output

Both are (in, in) float32 a layer: 0.06 + 0.92 MB a block of the pocket model, 11.8 MB over all; 2.4 + 37.7 MB a block
of ViT-B, 481 MB over all, against 1,020 MB for the three sums of its diagonal Fisher. G_w has three sums too.
"""

from collections.abc import Iterator

from torch import Tensor, nn

from ..collector import CONSTANT, SQUARES, squares
from ..collector_registry import register_collector
from ..layer_gradients import LayerBatch
from .unit_inputs import UnitInputs


@register_collector("gram")
class Gram(UnitInputs):
    """Sums of x x^T, `<layer>.gram`, for `proj` and `lin2` of every block."""

    powers = CONSTANT

    @classmethod
    def shapes(cls, model: nn.Module) -> dict[str, tuple[int, ...]]:
        return {f"{name}.gram": (layer.in_features,) * 2 for name, layer in cls.layers(model).items()}

    def contribute(self, layer_name: str, batch: LayerBatch) -> Iterator[tuple[str, Tensor]]:
        if (real := self.real(layer_name, batch)) is not None:
            inputs = batch.inputs[:, real].flatten(0, 1)
            yield f"total/{layer_name}.gram", inputs.T @ inputs


@register_collector("weighted_gram")
class WeightedGram(Gram):
    """Sums of |dL/dy|^2 x x^T, for every lambda_B."""

    powers = SQUARES

    def contribute(self, layer_name: str, batch: LayerBatch) -> Iterator[tuple[str, Tensor]]:
        if (real := self.real(layer_name, batch)) is not None:
            inputs = batch.inputs[:, real].flatten(0, 1)
            # one row a loss, and the sum over the layer's outputs: the tokens' squared gradients
            channels_first = [d[:, real].flatten(0, 1).T for d in batch.gradients]
            for name, weights in squares(channels_first):
                yield f"{name}/{layer_name}.gram", inputs.T @ (inputs * weights[:, None])
