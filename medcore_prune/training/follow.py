"""What follows a training step by step: a function of the caller's, TensorBoard, or any other log."""

import math
from collections.abc import Callable, Mapping
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from .._support.errors import MedcorePruneError
from .record import TrainRecord

OnStep = Callable[[int, Mapping[str, float]], object]
"""Called with the steps done and what is known of the last one: `train/loss`, the parts of the loss as `train/NAME`,
`train/learning_rate`, and after a look at the validation images `validation/NAME`; with 0 where one comes before the
first step. A training that goes on after a kill goes on with the steps behind its last saved state, some of which were
told before. What it raises ends the training."""


def told(record: TrainRecord, step: int, learning_rate: float | None) -> dict[str, float]:
    """What a record knows of the step that was just done, by the names of `OnStep`; no rate before the first."""
    found: dict[str, float] = {}
    if learning_rate is not None:
        found = {"train/loss": record.losses[-1], "train/learning_rate": learning_rate}
        found |= {f"train/{name}": values[-1] for name, values in record.terms.items()}
    last = record.validations[-1] if record.validations else {}
    if last.get("step") == step:
        found |= {f"validation/{name}": value for name, value in last.items() if name != "step"}
    return found


class TensorBoardLog:
    """Write a training for TensorBoard: `mp.adapt(..., on_step=TensorBoardLog("runs/first"))`.

    Steps that were written before a kill, behind the state that the training goes on from, are replaced.

    Args:
        folder: Where the files go; `tensorboard --logdir` shows it.

    Raises:
        MedcorePruneError: The extra `tensorboard` is not installed.
    """

    def __init__(self, folder: str | Path) -> None:
        if find_spec("tensorboard") is None:
            raise MedcorePruneError('TensorBoard needs tensorboard: pip install "medcore-prune[tensorboard]"')
        self.folder = Path(folder)
        self._writer: Any = None

    def __call__(self, step: int, values: Mapping[str, float]) -> None:
        """Write what is known of a step; numbers that are not finite are left out."""
        if self._writer is None:
            writer: Any = import_module("torch.utils.tensorboard")
            self._writer = writer.SummaryWriter(str(self.folder), purge_step=step)
        for name, value in values.items():
            if math.isfinite(value):
                self._writer.add_scalar(name, value, step)
        self._writer.flush()

    def close(self) -> None:
        """Close the file; another step would open a new one."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None
