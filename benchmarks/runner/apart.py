"""Models that an experiment fine-tunes, made in another process, on another machine perhaps."""

from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, NamedTuple

from torch import nn

from ...models.precision import computing
from ...models.tiny_vit.stems import kept_stems
from ...pruning.plan import Plan
from ...training.cascade import Stage
from .inputs import inputs_again
from .settings import Settings
from .store import ResultStore

if TYPE_CHECKING:
    from .experiment import Experiment


class Made(NamedTuple):
    """What comes back: the model, all that went of it, and its recoveries."""

    model: nn.Module
    plan: Plan
    stages: tuple[Stage, ...]


@dataclass(frozen=True)
class Order:
    """An experiment as another process makes it again: its name, what was asked for, and the hashes of its inputs."""

    experiment: str
    settings: Settings
    own: tuple[tuple[str, Any], ...]
    hashes: tuple[tuple[str, str | None], ...]

    @classmethod
    def of(cls, experiment: "Experiment") -> "Order":
        """Describe an experiment whose inputs are loaded."""
        own = [
            (each.name, getattr(experiment, each.name))
            for each in fields(experiment)
            if each.init and each.name != "settings"
        ]
        hashes = tuple(sorted(experiment.inputs.hashes.items()))
        return cls(experiment.name, experiment.settings, tuple(own), hashes)


def make(order: Order, name: str) -> Iterator[Made]:
    """Make the item of that name; what several items share, as the first pass of sequential levels, each makes anew."""
    from .experiment import OFFERED

    # whoever asks writes: calibrations and recoveries go where nobody else looks
    with TemporaryDirectory(prefix="medcore-bench-") as folder:
        experiment = _again(order, Path(folder, "out"))
        item = next(item for item in experiment.items() if item.name == name)
        settings = experiment.settings
        with computing(settings.precision, settings.device, OFFERED), kept_stems():
            made = item.make()
    yield Made(made.model, made.plan, made.stages)


def _again(order: Order, out: Path) -> "Experiment":
    from .experiment import experiments

    own: dict[str, Any] = dict(order.own)
    found = experiments.get(order.experiment)(replace(order.settings, out=out, cache=None, ray=None), **own)
    found.store = ResultStore(out)
    found.methods = found.choose()
    found.inputs = inputs_again(order.settings, order.hashes)
    found.methods = found.able()
    return found
