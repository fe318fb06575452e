"""What happened in a recovery: the loss curve and its terms, the validations, and which weights were kept."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from .training import TrainSettings, learning_rate_at
from .training_state import TrainRecord


@dataclass(frozen=True)
class RecoveryHistory:
    """A recovery from start to end.

    Attributes:
        frame: A row a step: `step` from 1, `learning_rate`, `loss`, and each active term of Eq. 14, unweighted.
        validations: A row a look at the validation images: `step`, the steps done before it, 0 being the start; `bf1`
            and `dice`, macro averages over data sets.
        best_step: Steps behind the weights that were kept; None where no validation images chose and the last were.
        stopped_early: Whether validations that got no better ended it.
        seconds: Time of the steps, without validations.
    """

    frame: pd.DataFrame = field(repr=False)
    validations: pd.DataFrame = field(repr=False)
    best_step: int | None
    stopped_early: bool
    seconds: float

    @classmethod
    def of(cls, record: TrainRecord, settings: TrainSettings) -> "RecoveryHistory":
        """Lay out what a training recorded."""
        steps = range(len(record.losses))
        columns = {
            "step": [step + 1 for step in steps],
            "learning_rate": [learning_rate_at(step, settings) for step in steps],
            "loss": record.losses,
            **record.terms,
        }
        looks = pd.DataFrame(record.validations, columns=["step", "bf1", "dice"]).astype({"step": int})
        return cls(pd.DataFrame(columns), looks, record.best_step, record.stopped_early, record.seconds)

    @property
    def start(self) -> Mapping[str, float]:
        """`bf1` and `dice` on validation images before the first step; empty without validations."""
        return self._scores_at(0)

    @property
    def best(self) -> Mapping[str, float]:
        """`bf1` and `dice` on validation images of the weights that were kept; empty without validations."""
        return self._scores_at(self.best_step)

    def _scores_at(self, step: int | None) -> dict[str, float]:
        rows = self.validations[self.validations["step"] == step]
        return {} if rows.empty else {name: float(rows.iloc[0][name]) for name in ("bf1", "dice")}

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values from which `from_dict` makes the history again, to the last digit."""
        return {
            "frame": _split(self.frame),
            "validations": _split(self.validations),
            "best_step": self.best_step,
            "stopped_early": self.stopped_early,
            "seconds": self.seconds,
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "RecoveryHistory":
        """Read what `to_dict` gave.

        Raises:
            KeyError: An entry is missing.
        """
        return cls(
            pd.DataFrame(**values["frame"]),
            pd.DataFrame(**values["validations"]),
            values["best_step"],
            bool(values["stopped_early"]),
            float(values["seconds"]),
        )


def _split(table: pd.DataFrame) -> dict[str, Any]:
    # sorted keys must not sort the columns
    return {"columns": list(table), "data": [list(row) for row in table.itertuples(index=False)]}
