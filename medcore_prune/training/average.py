"""Averages of a model's weights before and after a fine-tuning, chosen on validation images.

Fine-tuning on few images gains on them and forgets some of what the start knew. Weights between the two often have
most of both (Wortsman et al., Robust fine-tuning of zero-shot models, CVPR 2022, arXiv 2109.01903). The trained ones
are the last, at which the learning rate has come down: of the looks on the way the best is often an early one, near the
start, and the mean over the steps was worse than the last on validation images.
"""

import math
from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from .._support.errors import DataError
from .._support.machines.ranks import ranks
from ..models.tiny_vit.stems import kept_stems
from .record import Scores, TrainRecord

SHARES = (0.0, 0.25, 0.5, 0.75, 1.0)
"""Shares of the trained weights that are tried; 0 is the start, 1 what the training kept."""


Judging = Callable[[nn.Module], Scores]
"""Scores of a model on validation images, higher is better; the first of them chooses."""


class Averaging:
    """A model's weights before its training, to average those after it with."""

    def __init__(self, model: nn.Module, judge: Judging, images: int) -> None:
        """Keep a copy of the weights; refuse (`DataError`) without a validation image to choose a share on."""
        if not images:
            raise DataError(
                "the share of an average is chosen on validation images, and there are none: give them a share, or do "
                "not average"
            )
        self._start = {name: value.detach().clone() for name, value in model.state_dict().items()}
        self._judge = judge

    def __call__(self, model: nn.Module, record: TrainRecord, looked: bool = False) -> None:
        """Average the trained model in place, in all processes alike, and record what was tried.

        `looked` says that the looks of the training were by the same judge, of which the last is then not had again.
        """
        me = ranks()
        *_, last = record.validations if looked and record.validations else [{}]
        known = {name: value for name, value in last.items() if name not in ("step", "noise")}
        trained = known if last.get("step") == len(record.losses) else None
        with kept_stems():
            record.averages = me.told(average_with(model, self._start, self._judge, trained) if me.first else [])
        me.share(model)


@torch.no_grad()
def average_with(
    model: nn.Module, start: Mapping[str, Tensor], judge: Judging, trained_scores: Mapping[str, float] | None = None
) -> list[dict[str, float]]:
    """Give a trained model, in place, the average with its start that is best on validation images.

    Args:
        model: The trained model, in evaluation mode; ends with the best average of `SHARES`, the larger share where
            two are alike.
        start: Its `state_dict` from before the training, on its device.
        judge: What chooses.
        trained_scores: What it says of the trained model, where it was asked before.

    Returns:
        For each of `SHARES` `share` and the scores by name, the chosen one's first.
    """
    trained = {name: value.detach().clone() for name, value in model.state_dict().items()}

    def at(share: float) -> dict[str, Tensor]:
        # both ends to the last bit
        if share in (0.0, 1.0):
            return dict(trained if share else start)
        return {
            name: torch.lerp(start[name], value, share) if value.is_floating_point() else value
            for name, value in trained.items()
        }

    looks = list[dict[str, float]]()
    for share in SHARES:
        model.load_state_dict(at(share))
        known = trained_scores if share == 1 else None
        looks.append({"share": share, **(known or judge(model).means)})
    looks.sort(key=_preference, reverse=True)
    model.load_state_dict(at(looks[0]["share"]))
    return looks


def _preference(look: Mapping[str, float]) -> tuple[float, float]:
    """Sorts a look by what chooses, a score that is not a number last, then by its share."""
    share, score, *_ = look.values()
    return (-math.inf if math.isnan(score) else score, share)
