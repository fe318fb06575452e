"""Models that an experiment fine-tunes, made in another process, on another machine perhaps."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple, Protocol

from torch import nn

from ...models.precision import computing
from ...models.tiny_vit.stems import kept_stems
from ...pruning.plan import Plan
from ...training.cascade import Cascaded, Stage
from .evaluate import OFFERED
from .inputs import Inputs, inputs_again
from .methods import Method
from .settings import Settings
from .store import ResultStore


class Experiment(Protocol):
    """What is read of an experiment; its module imports this one."""

    settings: Settings
    methods: list[Method]
    inputs: Inputs
    store: ResultStore

    def choose(self) -> list[Method]:
        """Say which methods are asked for."""
        ...

    def able(self) -> list[Method]:
        """Say which of them can take part."""
        ...

    def items(self) -> "Sequence[Item]":
        """Say which models are fine-tuned."""
        ...


class Item(Protocol):
    """What is read of one of its models."""

    @property
    def name(self) -> str:
        """What it is called."""
        ...

    @property
    def make(self) -> Callable[[], Cascaded]:
        """Make it."""
        ...


class Made(NamedTuple):
    """What comes back: the model, all that went of it, and its recoveries."""

    model: nn.Module
    plan: Plan
    stages: tuple[Stage, ...]


@dataclass(frozen=True)
class Order:
    """An experiment as another process makes it again: its kind, what was asked for, and the hashes of its inputs."""

    kind: Callable[..., Experiment]
    settings: Settings
    own: tuple[tuple[str, Any], ...]
    hashes: tuple[tuple[str, str | None], ...]

    @classmethod
    def of(cls, experiment: Any) -> "Order":
        """Describe an experiment, a dataclass whose inputs are loaded."""
        own = [
            (each.name, getattr(experiment, each.name))
            for each in fields(experiment)
            if each.init and each.name != "settings"
        ]
        hashes = tuple(sorted(experiment.inputs.hashes.items()))
        return cls(type(experiment), experiment.settings, tuple(own), hashes)


def make(order: Order, name: str) -> Iterator[Made]:
    """Make the item of that name; what several items share, as the first pass of sequential levels, each makes anew."""
    # whoever asks writes: calibrations and recoveries go where nobody else looks
    with TemporaryDirectory(prefix="medcore-bench-") as folder:
        experiment = _again(order, Path(folder, "out"))
        item = next(item for item in experiment.items() if item.name == name)
        settings = experiment.settings
        with computing(settings.precision, settings.device, OFFERED), kept_stems():
            made = item.make()
    yield Made(made.model, made.plan, made.stages)


def _again(order: Order, out: Path) -> Experiment:
    found = order.kind(replace(order.settings, out=out, cache=None, ray=None), **dict(order.own))
    found.store = ResultStore(out)
    found.methods = found.choose()
    found.inputs = inputs_again(order.settings, order.hashes)
    found.methods = found.able()
    return found
