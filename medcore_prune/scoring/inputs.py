"""What criteria read, in one value."""

from collections.abc import Mapping
from dataclasses import dataclass

from torch import nn

from ..calibration.statistics import Statistics
from ..data.samples import SampleSet
from ..data.splits.split import Data, training_split


@dataclass(frozen=True)
class Inputs:
    """What a criterion is bound to; it reads what its `needs` and `reads` name.

    Attributes:
        model: The adapted model, theta_M, that is scored.
        reference: The checkpoint that it was adapted from.
        data: Images by data set.
        statistics: What calibration collected.
        seed: Of stochastic criteria.
    """

    model: nn.Module | None = None
    reference: nn.Module | None = None
    data: Mapping[str, SampleSet] | None = None
    statistics: Statistics | None = None
    seed: int = 0


INPUTS = ("statistics", "model", "reference", "data", "seed")
"""Names of what a criterion may read, in the order in which messages name them."""

HOW_TO_GIVE = {
    "statistics": "collect them with medcore_prune.calibrate",
    "model": "pass the model that is to be pruned",
    "reference": "pass the checkpoint that the model was fine-tuned from",
    "data": "pass images with masks",
}


def images_of(data: Data | None) -> Mapping[str, SampleSet] | None:
    """Return images by data set, of a split its training part whole."""
    return None if data is None else training_split(data, "scoring").train
