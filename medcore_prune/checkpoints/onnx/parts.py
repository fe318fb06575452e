"""What of a model can be exported, with the names of what goes in and comes out, and torch's two ways to write it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ...models.families import encoder_of
from ...models.protocol import decode, embed, low_res_logits

_OPSET = 17


class _Encoder(nn.Module):
    """image (B, 3, S, S) in [0, 1] -> embedding (B, C, S / patch, S / patch)."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder_of(model)

    def forward(self, image: Tensor) -> Tensor:
        return embed(self.encoder, image)


class _Whole(nn.Module):
    """image (B, 3, S, S), box (B, 4) in input pixels -> logits and probabilities (B, 1, 4 S / patch, 4 S / patch)."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, image: Tensor, box: Tensor) -> tuple[Tensor, Tensor]:
        logits = low_res_logits(self.model, image, box)
        return logits, logits.sigmoid()


class _Decoder(nn.Module):
    """embedding (B, C, S / patch, S / patch), box (B, 4) in input pixels -> as `_Whole`."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, embedding: Tensor, box: Tensor) -> tuple[Tensor, Tensor]:
        logits = decode(self.model, embedding, box)
        return logits, logits.sigmoid()


@dataclass(frozen=True)
class Part:
    make: Callable[[nn.Module], nn.Module]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]

    def arguments(self, model: nn.Module, image: Tensor, box: Tensor) -> tuple[Tensor, ...]:
        """Inputs of the part, made from those of the whole."""
        with torch.no_grad():
            return tuple(_GIVEN[name](model, image, box) for name in self.inputs)


_GIVEN: Mapping[str, Callable[[nn.Module, Tensor, Tensor], Tensor]] = {
    "image": lambda model, image, box: image,
    "box": lambda model, image, box: box,
    "embedding": lambda model, image, box: embed(model, image),
}
PARTS: dict[str, Part] = {
    "encoder": Part(_Encoder, ("image",), ("embedding",)),
    "decoder": Part(_Decoder, ("embedding", "box"), ("logits", "probabilities")),
    "whole": Part(_Whole, ("image", "box"), ("logits", "probabilities")),
}
"""What can be exported, with the names of its inputs and outputs."""


def _export(module: nn.Module, arguments: tuple[Tensor, ...], part: Part, place: Path, **how: Any) -> None:
    inputs, outputs = list(part.inputs), list(part.outputs)
    torch.onnx.export(module, arguments, str(place), input_names=inputs, output_names=outputs, **how)


def _torchscript(module: nn.Module, arguments: tuple[Tensor, ...], part: Part, place: Path) -> None:
    axes = {name: {0: "batch"} for name in (*part.inputs, *part.outputs)}
    _export(module, arguments, part, place, dynamic_axes=axes, opset_version=_OPSET, dynamo=False)


def _dynamo(module: nn.Module, arguments: tuple[Tensor, ...], part: Part, place: Path) -> None:
    batch = torch.export.Dim("batch", min=1, max=4096)
    shapes = tuple({0: batch} for _ in arguments)
    _export(module, arguments, part, place, dynamic_shapes=shapes, dynamo=True, external_data=False, verbose=False)


EXPORTERS: dict[str, Callable[[nn.Module, tuple[Tensor, ...], Part, Path], None]] = {
    "torchscript": _torchscript,
    "dynamo": _dynamo,
}
"""torch's two exporters. Both give the same numbers here; the tracing one takes seconds, the other minutes."""
