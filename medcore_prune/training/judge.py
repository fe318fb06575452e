"""What validation images say of a model: Boundary F1 and Dice, as `evaluate` counts them."""

from collections.abc import Mapping

import torch
from torch import nn

from ..data.frame import Frame
from ..data.samples import SampleSet
from ..evaluation.evaluate import BATCH_SIZE, macro_average, predict, score
from ..evaluation.images import KEPT_BYTES, EvaluationSet
from .record import Scores

SCORES = ("bf1", "dice")


class Judge:
    """Boundary F1 and Dice on validation images (macro average, 256 grid), the first of which chooses the weights.

    At most `at_a_time` images go through a model together. Objects that are gone at the model's size are named.
    """

    def __init__(self, validation: Mapping[str, SampleSet], frame: Frame, at_a_time: int | None) -> None:
        self._batch_size = min(BATCH_SIZE, at_a_time or BATCH_SIZE)
        held = [samples for samples in validation.values() if len(samples)]
        # what a training takes besides is reckoned beforehand, so that images have no more of the device either
        kept = KEPT_BYTES // max(1, len(held))
        self.sets = [EvaluationSet(samples, frame, kept_bytes=kept, device_bytes=kept) for samples in held]
        for images in self.sets:
            images.warn()

    def __call__(self, model: nn.Module) -> Scores:
        masks = [predict(model, images, batch_size=self._batch_size) for images in self.sets]
        scored = [score(each, images) for each, images in zip(masks, self.sets, strict=True)]
        means = [macro_average(table, SCORES) for table in scored]
        return Scores(
            {name: float(sum(each[name] for each in means) / len(means)) for name in SCORES},
            {f"{place}": torch.tensor(table["bf1"].to_numpy()) for place, table in enumerate(scored)},
            {f"{place}": images.groups for place, images in enumerate(self.sets)},
        )
