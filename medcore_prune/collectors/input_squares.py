"""How large the inputs of `proj` and `lin2` are, channel by channel."""

from collections.abc import Iterator

from torch import Tensor, nn

from ..collector import CONSTANT
from ..collector_registry import register_collector
from ..layer_gradients import LayerBatch
from .unit_inputs import UnitInputs


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
