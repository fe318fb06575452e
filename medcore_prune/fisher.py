"""Exact per-sample statistics of the prunable layers, in batches (Eq. 10; METHOD section 5).

One forward and one backward pass a loss give every sample's own gradient; what is summed are its squares, so that a
batch of eight gives the same numbers as eight batches of one.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from .collectors import COLLECTORS
from .defaults import DEFAULTS
from .encoders import blocks_of
from .layer_gradients import LayerBatch, watching
from .losses import band_radius, band_term, boundary_band, plain_loss
from .protocol import input_logits, low_res_logits

BOTH_LOSSES = ("plain", "band")

_LOSSES: dict[str, Callable[[Tensor, Tensor, Tensor], Tensor]] = {
    "plain": lambda logits, mask, band: plain_loss(logits, mask),
    "band": band_term,
}


def prunable_layers(model: nn.Module) -> dict[str, nn.Linear]:
    """The linear layers that pruning cuts, by qualified name, shallowest block first."""
    return {block.layer_names[role]: layer for block in blocks_of(model) for role, layer in block.layers.items()}


class Accumulator:
    """Sums over samples of what the named collectors form, for every prunable layer of one model.

    Args:
        model: A `Sam`, on the device where everything is computed.
        collectors: Names in `COLLECTORS`.
        losses: `("plain",)` takes one backward pass and serves lambda_B = 0 alone; `("plain", "band")` takes two and
            serves every lambda_B.
        band_radius_px: Of the boundary band, on the grid named in `defaults`.
        mixed_precision: Run the forward pass in bfloat16; sums stay float32.

    Attributes:
        sums: Collector name to tensors named `<sum>/<layer>.weight` and `<sum>/<layer>.bias`; float32, or float64
            where the model is.
        count: Samples summed.
    """

    def __init__(
        self,
        model: nn.Module,
        collectors: Sequence[str] = ("fisher",),
        losses: Sequence[str] = BOTH_LOSSES,
        band_radius_px: float = DEFAULTS.band_radius_px,
        mixed_precision: bool = False,
    ) -> None:
        self.model, self.losses = model, tuple(losses)
        self._layers = prunable_layers(model)
        self._band_radius_px, self._mixed_precision = band_radius_px, mixed_precision
        self.sums = {name: self._zeros(name) for name in collectors}
        self.count = 0

    def _zeros(self, collector: str) -> dict[str, Tensor]:
        return {
            f"{name}/{layer_name}.{kind}": torch.zeros_like(
                parameter, dtype=torch.promote_types(parameter.dtype, torch.float32), requires_grad=False
            )
            for name in COLLECTORS[collector].sums(self.losses)
            for layer_name, layer in self._layers.items()
            for kind, parameter in (("weight", layer.weight), ("bias", layer.bias))
        }

    def _consume(self, layer_name: str, batch: LayerBatch) -> None:
        for collector, sums in self.sums.items():
            names = COLLECTORS[collector].sums(self.losses)
            for name, (weight, bias) in zip(names, COLLECTORS[collector].contribute(batch), strict=True):
                sums[f"{name}/{layer_name}.weight"].add_(weight)
                sums[f"{name}/{layer_name}.bias"].add_(bias)

    def add(self, images: Tensor, boxes: Tensor, masks: Tensor, names: Sequence[str] | None = None) -> None:
        """Add a batch with one box an image.

        Args:
            images: (B, 3, S, S) from `protocol.preprocess`.
            boxes: (B, 4) in input pixels.
            masks: (B, 1, S, S) of 0 and 1.
            names: What to call the samples in an error.

        Raises:
            StatisticsError: The loss or the gradient of a sample is not finite; the sums are then of no use.
        """
        band = boundary_band(masks, band_radius(images.shape[-1], self._band_radius_px))
        with watching(self.model, self._layers, self._consume) as watch:
            with torch.autocast(images.device.type, torch.bfloat16, enabled=self._mixed_precision):
                low_res = low_res_logits(self.model, images, boxes)
            logits = input_logits(low_res.to(torch.promote_types(low_res.dtype, torch.float32)), images.shape[-1])
            losses = [_LOSSES[name](logits, masks, band) for name in self.losses]
            watch.backward(losses, names or [f"sample {self.count + index}" for index in range(len(images))])
        self.count += len(images)
