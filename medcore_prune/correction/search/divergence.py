"""How far a cut model's masks are from the dense model's, without labels: the fitness of a search."""

from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..._support.errors import SurgeryError
from ...data.masks import band_radius, boundary_band
from ...data.reading import by_image, in_batches, read_images
from ...data.samples import SampleSet
from ...defaults import DEFAULTS
from ...models.families import geometry_of
from ...models.protocol import low_res_logits


def bernoulli_divergence(dense: Tensor, cut: Tensor) -> Tensor:
    """KL(p || q) of two maps of logits, p of the dense model, pixel by pixel: at least 0, 0 where they are equal."""
    dense, cut = dense.double(), cut.double()
    p = dense.sigmoid()
    inside = p * (F.logsigmoid(dense) - F.logsigmoid(cut))
    return inside + (1 - p) * (F.logsigmoid(-dense) - F.logsigmoid(-cut))


class Divergence:
    """Mean over pixels of KL times 1 + lambda_B * band of the dense model's own mask; images and their masks are kept.

    Images by data set are read in the size and on the device of `dense`; each data set weighs the same.
    """

    def __init__(self, dense: nn.Module, drawn: Mapping[str, SampleSet], batch_size: int) -> None:
        parameter, frame = next(dense.parameters()), geometry_of(dense).frame
        self._batches: list[tuple[Tensor, Tensor, tuple[int, ...]]] = []
        self._shares: list[float] = []
        for samples in drawn.values():
            for places in in_batches(by_image(samples, read=True), batch_size):
                read = read_images(samples, places, frame)
                images = read.images.to(parameter.device, parameter.dtype)
                self._batches.append((images, read.boxes.to(parameter.device), read.owner))
                self._shares.append(len(read.boxes) / (len(drawn) * len(samples)))
        self._dense = self._logits(dense)
        self._weights = [1 + DEFAULTS.lambda_b * _band(logits) for logits in self._dense]

    def of(self, model: nn.Module) -> float:
        """Divergence of a model cut from the dense one: 0 where all logits are the same."""
        together = zip(self._weights, self._dense, self._logits(model), strict=True)
        parts = [(weights * bernoulli_divergence(dense, cut)).mean() for weights, dense, cut in together]
        return sum(share * part for share, part in zip(self._shares, torch.stack(parts).tolist(), strict=True))

    def _logits(self, model: nn.Module) -> Sequence[Tensor]:
        found = [low_res_logits(model, *batch).float() for batch in self._batches]
        if not bool(torch.stack([torch.isfinite(logits).all() for logits in found]).all()):
            raise SurgeryError(
                "a model of the search gives logits that are not finite: look at the model and the images"
            )
        return found


def _band(logits: Tensor) -> Tensor:
    return boundary_band(logits > 0, band_radius(logits.shape[-1]))
