"""Averages of a model's weights before and after a fine-tuning, chosen on validation images.

Fine-tuning on few images gains on them and forgets some of what the start knew. Weights between the two often have
most of both (Wortsman et al., Robust fine-tuning of zero-shot models, CVPR 2022, arXiv 2109.01903).
"""

import math
from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from .record import Scores

SHARES = (0.0, 0.25, 0.5, 0.75, 1.0)
"""Shares of the trained weights that are tried; 0 is the start, 1 what the training kept."""


@torch.no_grad()
def average_with(
    model: nn.Module, start: Mapping[str, Tensor], judge: Callable[[nn.Module], Scores]
) -> list[dict[str, float]]:
    """Give a trained model, in place, the average with its start that is best on validation images.

    Args:
        model: The trained model, in evaluation mode; ends with the best average of `SHARES`, the larger share where
            two are alike.
        start: Its `state_dict` from before the training, on its device.
        judge: Scores of a model; the first of them, higher is better, chooses.

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
        looks.append({"share": share, **judge(model).means})
    looks.sort(key=_preference, reverse=True)
    model.load_state_dict(at(looks[0]["share"]))
    return looks


def _preference(look: Mapping[str, float]) -> tuple[float, float]:
    """Sorts a look by what chooses, a score that is not a number last, then by its share."""
    share, score, *_ = look.values()
    return (-math.inf if math.isnan(score) else score, share)
