"""What `proj` and `lin2` read: the outputs of heads and neurons, at the tokens that show the image."""

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from ...models.families import blocks_of
from ..collector import CONSTANT, SQUARES, Collector, register_collector, squares
from ..layer_gradients import LayerBatch

_ROLES = ("proj", "lin2")


def real_tokens(side: int, window: int) -> npt.NDArray[np.bool_]:
    """Say which tokens of an image of `side` x `side` show it, and which only fill windows up: (tokens,) bool.

    Windows, `window` tokens a side, are taken row by row from the image, padded on the right and below to whole ones; 0
    is global attention, which pads nothing. Tokens come window by window, and row by row in each.
    """
    if not window:
        return np.ones(side * side, dtype=bool)
    windows = -(-side // window)
    inside = np.arange(windows * window).reshape(windows, window) < side
    return np.asarray(inside[:, None, :, None] & inside[None, :, None, :]).ravel()


class UnitInputs(Collector):
    """Sums over the inputs of `proj` and `lin2` of every block, the tokens that only pad a window left out."""

    def __init__(self, model: nn.Module, reference: nn.Module | None = None) -> None:
        super().__init__(model, reference)
        # attention alone runs in windows
        self._real = {
            block.layer_names[role]: np.flatnonzero(
                real_tokens(block.tokens_side, block.window if role == "proj" else 0)
            )
            for block in blocks_of(model)
            for role in _ROLES
        }

    @staticmethod
    def layers(model: nn.Module) -> dict[str, nn.Linear]:
        """The layers that are looked at, by qualified name."""
        return {block.layer_names[role]: block.layers[role] for block in blocks_of(model) for role in _ROLES}

    def real(self, layer_name: str, batch: LayerBatch) -> Tensor | None:
        """Places of a batch's tokens that show the image; None for a layer that is not looked at."""
        real = self._real.get(layer_name)
        return None if real is None else torch.from_numpy(real).to(batch.inputs.device)


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


@register_collector("input_squares")
class InputSquares(UnitInputs):
    """Sums of x_c^2 over the tokens of an image, `<layer>.squares`, (in,) for `proj` and `lin2` of every block."""

    powers = CONSTANT

    @classmethod
    def shapes(cls, model: nn.Module) -> dict[str, tuple[int, ...]]:
        return {f"{name}.squares": (layer.in_features,) for name, layer in cls.layers(model).items()}

    def contribute(self, layer_name: str, batch: LayerBatch) -> Iterator[tuple[str, Tensor]]:
        if (real := self.real(layer_name, batch)) is not None:
            yield f"total/{layer_name}.squares", batch.inputs[:, real].square().sum((0, 1))
