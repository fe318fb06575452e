"""SlimSAM's disturbed Taylor importance: how an embedding with noise on it would change the weights. No labels."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from .._support.errors import CriterionError
from ..calibration.collector import prunable_layers
from ..calibration.layer_gradients import LayerBatch, watching
from ..models.families import geometry_of
from ..models.groups import StructuredGroup
from ..models.precision import exactly
from ..models.protocol import embed, of_neck
from ..scoring.criterion import Criterion
from ..scoring.registry import register_criterion
from .taylor import taylor_scores

NOISE_STD = 0.01
"""Standard deviation of the noise, SlimSAM's. Gradients are proportional to it, so that no order depends on it."""


@register_criterion("disturbed_taylor", source="SlimSAM, Chen et al. 2024, arXiv 2312.05284")
@dataclass(frozen=True, kw_only=True)
class DisturbedTaylor(Criterion):
    """First-order Taylor importance of an embedding's distance to itself with noise on it; reads images, no labels.

        L = mean (t(x) - (t(x) + n))^2,   n ~ N(0, 0.01^2),

    t being the image encoder: without the noise, the distance of the model to itself and its gradient are zero. The
    gradient is summed over all images of all data sets; the score is `taylor_scores`. An encoder alone
    will do as model; the seed is that of the noise.

    Args:
        batch_size: Images a pass.

    Raises:
        CriterionError: There are no images.
    """

    cost = "calibration"
    reads = ("model", "data")

    batch_size: int = 8

    def score_all(self, groups: Sequence[StructuredGroup]) -> list[Tensor]:
        if not any(map(len, self.data.values())):
            raise CriterionError("disturbed_taylor runs the encoder on images: give at least one")
        gradients = self._gradients()
        return [taylor_scores(group, lambda _, name: gradients[name]) for group in groups]

    def _gradients(self) -> dict[str, tuple[Tensor, Tensor]]:
        layers = prunable_layers(self.model)
        sums: dict[str, tuple[Tensor, Tensor]] = {}

        def consume(name: str, batch: LayerBatch) -> None:
            slopes, inputs = batch.gradients[0].flatten(0, 1), batch.inputs.flatten(0, 1)
            with exactly():
                new = slopes.T @ inputs, slopes.sum(0)
            sums[name] = (sums[name][0] + new[0], sums[name][1] + new[1]) if name in sums else new

        noise = torch.Generator().manual_seed(self.inputs.seed % 2**63)
        for names, images in self._batches():
            with watching(self.model, layers, consume) as watch:
                embedding = of_neck(self.model, embed(self.model, images))
                drawn = torch.randn(embedding.shape, generator=noise, dtype=embedding.dtype).to(embedding.device)
                loss = (embedding - (embedding.detach() + NOISE_STD * drawn)).square().flatten(1).mean(1)
                watch.backward([loss], names)
        return sums

    def _batches(self) -> Iterator[tuple[list[str], Tensor]]:
        first, frame = next(self.model.parameters()), geometry_of(self.model).frame
        for samples in self.data.values():
            for start in range(0, len(samples), self.batch_size):
                batch = [samples[index] for index in range(start, min(start + self.batch_size, len(samples)))]
                yield (
                    [sample.name for sample in batch],
                    torch.stack([frame.image(sample.image) for sample in batch]).to(first),
                )
