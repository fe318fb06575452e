"""What a training has come to so far, in memory and as a file that a killed one goes on from."""

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ._support.errors import MedcorePruneError
from ._support.files import atomic_write
from ._support.torch_file import read_torch_file

Validate = Callable[[nn.Module], Mapping[str, float]]
"""Named scores of a model, higher is better; the first of them chooses the weights."""


@dataclass
class TrainRecord:
    """What happened in a training.

    Attributes:
        losses: The loss of every step.
        terms: Name of a part of the loss to its value at every step.
        validations: For each look at the validation images `step`, the steps done before it, and the scores by name.
        best_step: Steps behind the weights that were kept; None where no validation chose.
        stopped_early: Whether validations that got no better ended it.
        seconds: Time spent, that of interrupted runs up to their last saved state included.
    """

    losses: list[float] = field(default_factory=list)
    terms: dict[str, list[float]] = field(default_factory=dict)
    validations: list[dict[str, float]] = field(default_factory=list)
    best_step: int | None = None
    stopped_early: bool = False
    seconds: float = 0.0

    def add(self, loss: float, terms: Mapping[str, float]) -> None:
        """Append one step."""
        self.losses.append(loss)
        for name, value in terms.items():
            self.terms.setdefault(name, []).append(value)

    @property
    def stale(self) -> int:
        """Validations since the best one."""
        return sum(1 for each in self.validations if self.best_step is not None and each["step"] > self.best_step)


class TrainState:
    """Everything that a killed training needs to go on as if nothing had happened.

    Args:
        model: What is trained; takes over the weights of a stored state.
        optimiser: Its optimiser, likewise.
        settings: JSON values of this training by name, which tell it from another one.
        identity: What tells it from another one besides: images, objective and start.
        path: Where the state is kept, and read from where there is one; None keeps it in memory alone.

    Raises:
        MedcorePruneError: The file is no training state, or another training's.
    """

    def __init__(
        self,
        model: nn.Module,
        optimiser: torch.optim.Optimizer,
        settings: Mapping[str, Any],
        identity: str,
        path: Path | None,
    ) -> None:
        self.model, self.optimiser, self.path = model, optimiser, path
        self.settings, self.identity = dict(settings), identity
        self.step, self.record = 0, TrainRecord()
        self.best: dict[str, Tensor] | None = None
        self.best_score = -math.inf
        self._saved_at = time.monotonic()
        if path is not None and path.exists():
            self._load(path)

    def _load(self, path: Path) -> None:
        try:
            stored = read_torch_file(path)
            other = self._differences(**stored["belongs_to"])
        except Exception as error:
            raise MedcorePruneError(
                f"{path} is no training state ({type(error).__name__}): remove it (or give --fresh) to start over"
            ) from error
        if other:
            raise MedcorePruneError(
                f"{path} belongs to another training ({other}): remove it (or give --fresh) to start over"
            )
        try:
            self.model.load_state_dict(stored["model"])
            self.optimiser.load_state_dict(stored["optimizer"])
            self.step, self.best, self.best_score = int(stored["step"]), stored["best"], float(stored["best_score"])
            # a state that was written before there were terms has losses alone
            self.record = TrainRecord(stored["losses"], **stored.get("record", {}))
        except (KeyError, TypeError, ValueError, AttributeError, RuntimeError) as error:
            raise _no_state(path, error) from error

    def _differences(self, settings: Mapping[str, Any], identity: str) -> str:
        """Words for what tells a stored training from this one; empty where they are the same."""
        words = [
            f"{name} {settings.get(name)!r}, not {self.settings.get(name)!r}"
            for name in {**settings, **self.settings}
            if settings.get(name) != self.settings.get(name)
        ]
        if identity != self.identity:
            words.append("other images or another start")
        return "; ".join(words)

    @property
    def unsaved_seconds(self) -> float:
        """How long ago the state was saved, or made."""
        return time.monotonic() - self._saved_at

    def save(self) -> None:
        """Write the state, whole or not at all; nothing where there is no path."""
        self._saved_at = time.monotonic()
        if self.path is None:
            return
        rest = {name: value for name, value in vars(self.record).items() if name != "losses"}
        state = {
            "belongs_to": {"settings": self.settings, "identity": self.identity},
            "model": self.model.state_dict(),
            "optimizer": self.optimiser.state_dict(),
            "step": self.step,
            "losses": self.record.losses,
            "record": rest,
            "best": self.best,
            "best_score": self.best_score,
        }
        with atomic_write(self.path) as temporary:
            torch.save(state, temporary)

    def judge(self, validate: Validate) -> None:
        """Look at the validation images and keep the weights if they are the best so far."""
        self.model.eval()
        scores = dict(validate(self.model))
        self.model.train()
        self.record.validations.append({"step": self.step, **scores})
        score = next(iter(scores.values()))
        if score > self.best_score:
            self.best_score, self.record.best_step = score, self.step
            self.best = {name: value.detach().clone() for name, value in self.model.state_dict().items()}

    @property
    def last_good(self) -> str:
        """Words that say where the last weights before a failure are."""
        if self.path is not None and self.path.exists():
            return f"{self.path} has the last good state"
        return "no state was saved, and the model holds the weights before that step"


def _no_state(path: Path, error: Exception) -> MedcorePruneError:
    return MedcorePruneError(f"{path} is no training state ({type(error).__name__}): remove it to start over")
