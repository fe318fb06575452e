"""What a training records: losses, looks at the validation images, and when these show a real decline."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from torch import Tensor

from ..evaluation.intervals import paired_error

NOISES = 2.0
"""Standard errors of a paired difference that a decline must be larger than."""


def outcome(best_step: int | None, share: float | None = None) -> str:
    """What a training gives back, in words.

    Args:
        best_step: Steps behind the trained weights that were kept; None for the last, where no look at validation
            images chose, as in an average.
        share: Their share in an average with the start that was chosen on validation images; None without averages.
    """
    if best_step == 0 or share == 0:
        return "nothing gained: the input model is returned"
    trained = "the last weights" if best_step is None else f"the weights after step {best_step}"
    if share is None or share == 1:
        return f"{trained} are returned"
    return f"the average of {share:.0%} of {trained} with the input model is returned"


@dataclass(frozen=True)
class Scores:
    """What validation images say of a model.

    Attributes:
        means: Named scores, higher is better; the first of them chooses the weights.
        of_images: Data set to the first score of each of its images, (n,) float64; empty where the noise of a
            difference is of no interest.
        groups: Data set to the group of each image.
    """

    means: Mapping[str, float]
    of_images: Mapping[str, Tensor] = field(default_factory=dict)
    groups: Mapping[str, Sequence[str]] = field(default_factory=dict)

    def noise_against(self, of_images: Mapping[str, Tensor]) -> float:
        """Standard error of the difference from another model's scores of the same images; 1 where it is unknown.

        Scores of images lie in [0, 1], so that no difference of means is larger than that.
        """
        pairs = {name: (mine - of_images[name]).numpy() for name, mine in self.of_images.items() if name in of_images}
        return paired_error(pairs, {name: self.groups[name] for name in pairs})


@dataclass
class TrainRecord:
    """What happened in a training.

    Attributes:
        losses: The loss of every step.
        terms: Name of a part of the loss to its value at every step.
        validations: For each look at the validation images `step`, the steps done before it, the scores by name, and,
            where there are scores of images, last `noise`, the standard error of the difference from the best look
            before.
        best_step: Steps behind the weights that were kept; None where no validation chose.
        stopped_early: Whether a decline on the validation images ended it.
        averages: Where the weights kept were averaged with those of the start, for each share of them that was tried
            `share` and the scores by name, that of the model that is returned first; empty otherwise.
        seconds: Time spent, that of interrupted runs up to their last saved state included.
    """

    losses: list[float] = field(default_factory=list)
    terms: dict[str, list[float]] = field(default_factory=dict)
    validations: list[dict[str, float]] = field(default_factory=list)
    best_step: int | None = None
    stopped_early: bool = False
    seconds: float = 0.0
    averages: list[dict[str, float]] = field(default_factory=list)

    def add(self, loss: float, terms: Mapping[str, float]) -> None:
        """Append one step."""
        self.losses.append(loss)
        for name, value in terms.items():
            self.terms.setdefault(name, []).append(value)

    def declined(self, patience: int, warmup: int) -> bool:
        """Whether the looks so far end a training: see `declined`."""
        if not patience:
            return False
        looks = [list(each.values()) for each in self.validations]
        return declined([(int(step), score, row[-1]) for step, score, *row in looks], patience, warmup)


def declined(looks: Sequence[tuple[int, float, float]], patience: int, warmup: int) -> bool:
    """Whether validations show a real decline, rather than noise or the dip that a high learning rate makes.

    Each of the last `patience` looks comes after the warm-up and lies below the best look before it by more than
    `NOISES` standard errors, and the last of them is not above the first: a model that climbs back is waited for.

    Args:
        looks: Step, score and noise of each look, in order; the noise is the standard error of the paired difference
            from the best look before.
        patience: Looks that must agree; 0 for never.
        warmup: Steps of the warm-up.
    """
    window = range(max(1, len(looks) - patience), len(looks))
    if not patience or len(window) < patience:
        return False
    for place in window:
        step, score, noise = looks[place]
        best = max(earlier for _, earlier, _ in looks[:place])
        if step <= warmup or not best - score > NOISES * noise:
            return False
    return looks[-1][1] <= looks[window.start][1]
