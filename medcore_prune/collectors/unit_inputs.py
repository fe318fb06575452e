"""What `proj` and `lin2` read: the outputs of heads and neurons, at the tokens that show the image."""

import torch
from torch import Tensor, nn

from ..collector import Collector
from ..layer_gradients import LayerBatch
from ..models.families import blocks_of, geometry_of

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


class UnitInputs(Collector):
    """Sums over the inputs of `proj` and `lin2` of every block, the tokens that only pad a window left out."""

    def __init__(self, model: nn.Module, reference: nn.Module | None = None) -> None:
        super().__init__(model, reference)
        side = geometry_of(model).tokens_side
        # attention alone runs in windows
        self._real = {
            block.layer_names[role]: real_tokens(side, block.window if role == "proj" else 0)
            for block in blocks_of(model)
            for role in _ROLES
        }

    @staticmethod
    def layers(model: nn.Module) -> dict[str, nn.Linear]:
        """The layers that are looked at, by qualified name."""
        return {block.layer_names[role]: block.layers[role] for block in blocks_of(model) for role in _ROLES}

    def real(self, layer_name: str, batch: LayerBatch) -> Tensor | None:
        """Which of a batch's tokens show the image, (T,) bool; None for a layer that is not looked at."""
        real = self._real.get(layer_name)
        return None if real is None else real.to(batch.inputs.device)
