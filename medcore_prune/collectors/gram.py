"""Gram matrices of the inputs of `proj` and `lin2`: what least squares needs to know of them (METHOD section 12).

    G = sum_t x_t x_t^T                     over the tokens of an image, those that only pad a window left out
    G_w = sum_t |dL/dy_t|^2 x_t x_t^T       tokens weighed by the squared gradient of the layer's output

Both are (in, in) float32 a layer: 0.06 + 0.92 MB a block of the pocket model, 11.8 MB over all; 2.4 + 37.7 MB a block
of ViT-B, 481 MB over all, against 1,020 MB for the three sums of its diagonal Fisher. G_w has three sums too.
"""

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from ..collector import CONSTANT, SQUARES, Collector, squares
from ..collector_registry import register_collector
from ..encoders import blocks_of, geometry_of
from ..layer_gradients import LayerBatch

_ROLES = ("proj", "lin2")


def real_tokens(side: int, window: int) -> Tensor:
    """Say which tokens of windowed attention show the image, and which only fill the windows up.

    Windows are taken row by row from the image, padded on the right and below to a multiple of the window.

    Args:
        side: Tokens along one side of the image.
        window: Side of a window in tokens; 0 for global attention, which pads nothing.

    Returns:
        (tokens,) bool in the order of the layer's inputs: window by window, and row by row in each.
    """
    if not window:
        return torch.ones(side * side, dtype=torch.bool)
    windows = -(-side // window)
    inside = torch.arange(windows * window).view(windows, window) < side
    return (inside[:, None, :, None] & inside[None, :, None, :]).flatten()


@register_collector("gram")
class Gram(Collector):
    """Sums of x x^T, `<layer>.gram`, for `proj` and `lin2` of every block."""

    powers = CONSTANT

    def __init__(self, model: nn.Module, reference: nn.Module | None = None) -> None:
        super().__init__(model, reference)
        side = geometry_of(model).tokens_side
        self._real: dict[str, Tensor] = {}
        for block in blocks_of(model):
            # attention alone runs in windows
            self._real[block.layer_names["proj"]] = real_tokens(side, block.window)
            self._real[block.layer_names["lin2"]] = real_tokens(side, 0)

    @classmethod
    def shapes(cls, model: nn.Module) -> dict[str, tuple[int, ...]]:
        return {
            f"{block.layer_names[role]}.gram": (block.layers[role].in_features,) * 2
            for block in blocks_of(model)
            for role in _ROLES
        }

    def contribute(self, layer_name: str, batch: LayerBatch) -> Iterator[tuple[str, Tensor]]:
        if layer_name in self._real:
            inputs = batch.inputs[:, self._real[layer_name].to(batch.inputs.device)].flatten(0, 1)
            yield f"total/{layer_name}.gram", inputs.T @ inputs


@register_collector("weighted_gram")
class WeightedGram(Gram):
    """Sums of |dL/dy|^2 x x^T, for every lambda_B."""

    powers = SQUARES

    def contribute(self, layer_name: str, batch: LayerBatch) -> Iterator[tuple[str, Tensor]]:
        if layer_name in self._real:
            real = self._real[layer_name].to(batch.inputs.device)
            inputs = batch.inputs[:, real].flatten(0, 1)
            # one row a loss, and the sum over the layer's outputs: the tokens' squared gradients
            channels_first = [d[:, real].flatten(0, 1).T for d in batch.gradients]
            for name, weights in squares(channels_first):
                yield f"{name}/{layer_name}.gram", inputs.T @ (inputs * weights[:, None])
