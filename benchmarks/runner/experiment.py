"""An experiment: what a new file fills in, and the way that all of them run."""

import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import click

from ..._support.devices import require_device
from ..._support.errors import RegistryError
from ..._support.files import exclusive
from ..._support.machines.executor import machines
from ..._support.registry import Registry
from ..._support.version import __version__
from ...calibration.calibrate import calibrate
from ...calibration.collector import Need
from ...calibration.statistics import Statistics
from ...commands.group import INTERRUPTED
from ...commands.work.memory import images_at_a_time
from ...data.splits.split import training_samples
from ...defaults import DEFAULTS
from ...evaluation.memory import measured
from ...models.precision import computing
from ...models.tiny_vit.stems import kept_stems
from ...pruning.level import Level
from ...training.settings import RecoverySettings
from ..commands.words import Setting, Words
from ..report.page import Page, write_results
from .apart import Order
from .evaluate import OFFERED, Evaluator, digest, notice
from .inputs import Inputs, load_inputs
from .jobs import Job
from .methods import Method, choose_methods, require_reference
from .recover import Item, Maker, recovery_settings
from .settings import Settings
from .store import ResultStore


@dataclass
class Experiment:
    """Base of all experiments; the docstring of a subclass is the help of its command.

    A subclass says in its attributes what its command takes, and in its methods what it evaluates and shows; the
    options of its own are fields, for which it is a dataclass. Those of this package say in `commands/` what they take,
    where help need not wait for torch. Whatever is stored already is not computed again.

    Attributes:
        settings: What was asked for with the options that every experiment has.
        methods: What takes part.
        inputs: Models and data.
        store: Where results go.
    """

    name: ClassVar[str] = ""
    """Of the command and of the default folder of results; `register_experiment` sets it."""
    options: ClassVar[Sequence[Callable[[Any], Any]]] = ()
    """Click's decorators of the options of its own, one for each field."""
    rare: ClassVar[Mapping[str, Setting]] = {}
    """What may be `--set` of its own, key to type and default; each is a field with that default."""
    levels: ClassVar[tuple[Level, ...]] = ()
    """Default of `--levels`; without any, there is no such option."""
    default_data: ClassVar[str] = "three drawn polyp sets"
    """What `--data` says that it takes by itself."""
    fixed: ClassVar[Mapping[str, Any]] = {}
    """Fields of `Settings` that are no option here."""
    modes: ClassVar[Mapping[str, str]] = {}
    """Name to title of the modes that results are stored under."""

    settings: Settings
    methods: list[Method] = field(init=False)
    inputs: Inputs = field(init=False)
    store: ResultStore = field(init=False)

    def choose(self) -> list[Method]:
        """Say which methods take part."""
        return choose_methods(self.settings)

    def able(self) -> list[Method]:
        """Say which of them can, now that models are known; by default all must."""
        require_reference(self.methods, self.inputs.reference is not None)
        return self.methods

    def identity(self) -> Mapping[str, Any]:
        """Say what else results that share a folder must agree in."""
        return {}

    def about(self) -> Mapping[str, Any]:
        """Say what else the record of the run holds."""
        return {}

    def announced(self) -> Iterable[str]:
        """Say in lines, before any work, what is about to be done."""
        return ()

    def jobs(self) -> Sequence[Job]:
        """Say which plans are cut and evaluated."""
        return ()

    def items(self) -> Sequence[Item]:
        """Say which models are fine-tuned and evaluated."""
        return ()

    def recovery(self) -> RecoverySettings:
        """Say how they are fine-tuned."""
        return recovery_settings(self.settings)

    def measure(self) -> None:
        """Evaluate what is not pruned, the jobs and the items; more to measure goes into an override."""
        self.evaluator.run_unpruned()
        if jobs := self.jobs():
            self.evaluator.run(jobs)
        if self._items:
            self.maker.run(self._items, Order.of(self))

    @staticmethod
    def page(store: ResultStore) -> Page:
        """Lay out what is stored; `medcore-bench report` does so again.

        Raises:
            NotImplementedError: In a subclass that has none.
        """
        raise NotImplementedError

    def show(self) -> None:
        """Write the page and print its first tables."""
        write_results(self.store, self.page(self.store))

    def run(self) -> None:
        """Run all of it; what is wrong with the inputs is said before any work starts.

        Raises:
            MedcorePruneError: Methods, models, data or earlier results that cannot be used, or a criterion that failed.
        """
        require_device(self.settings.device)
        with running(self.settings), computing(self.settings.precision, self.settings.device, OFFERED) as precision:
            self.settings = replace(self.settings, precision=precision)
            self.methods = self.choose()
            self.inputs = load_inputs(self.settings)
            self.methods = self.able()
            self.store = ResultStore.create(self.settings.out, self._record(), fresh=self.settings.fresh)
            # after the identity of the run, which must not depend on how much memory there happens to be
            at_a_time = images_at_a_time(self.inputs.adapted, self.settings.batch_size)
            self.settings = replace(self.settings, batch_size=at_a_time)
            for line in self.announced():
                click.echo(line)
            if self._items:
                self.maker.announce(self._items, self.inputs.roles)
            with kept_stems():
                self.measure()
            self.show()

    @cached_property
    def evaluator(self) -> Evaluator:
        """Evaluates what is not stored yet."""
        return Evaluator(self.inputs, self.settings, self.store, experiment=self.name)

    @cached_property
    def maker(self) -> Maker:
        """Makes, times and evaluates fine-tuned models."""
        return Maker(self.inputs, self.settings, self.store, self.evaluator, self.recovery())

    @cached_property
    def statistics(self) -> "Draws":
        """Calibration draw to what the methods read of it, collected when it is first asked for; often empty."""
        needs = frozenset[Need]().union(*(method.needs for method in self.methods))
        found = Draws(self.inputs, self.store, self.settings, needs)
        self.evaluator.samples_of.update({draw: found.digest(draw) for draw in found})
        return found

    @property
    def images(self) -> int:
        """Images that models are judged on, of all data sets."""
        return sum(map(len, self.inputs.sets.values()))

    @cached_property
    def _items(self) -> Sequence[Item]:
        return list(self.items())

    def _record(self) -> dict[str, Any]:
        """What `run.json` says of the run."""
        settings, inputs = self.settings, self.inputs
        sets = {name: {"images": len(each), "groups": len(set(each.groups))} for name, each in inputs.sets.items()}
        built_in = "pocket pair, reference" if inputs.reference else ""
        return {
            "identity": {
                "experiment": self.name,
                "version": __version__,
                "model": inputs.kind,
                "image_size": inputs.frame.size,
                "inputs": inputs.hashes,
                "role": settings.role,
                "eval_size": settings.eval_size,
                "tolerance_px": settings.tolerance_px,
                "precision": settings.precision,
                "calibration_samples": settings.counts.calibration,
                "split_seed": settings.split_seed,
                "defaults": asdict(DEFAULTS),
                **self.identity(),
            },
            "notice": notice(inputs, settings),
            "subject": settings.subject,
            "methods": {method.name: method.describe() for method in self.methods},
            # pairs, since the keys of a stored object come back in the order of the alphabet
            "modes": [list(pair) for pair in self.modes.items()],
            "draws": settings.counts.draws,
            "device": settings.device,
            "data": sets,
            "noticed": {name: list(notes) for name, notes in inputs.notes.items() if notes},
            "adapted": Path(settings.adapted).name if settings.adapted else "pocket pair, adapted",
            "reference": Path(settings.reference).name if settings.reference else built_in,
            **self.about(),
        }

    @classmethod
    def command(cls) -> click.Command:
        """Make the command."""
        words = Words(cls.name, cls.__doc__ or "", cls.options, cls.rare, cls.levels, cls.default_data, cls.fixed)
        return words.command()


def _prepared(name: str, declared: Any) -> type[Experiment]:
    if not (isinstance(declared, type) and issubclass(declared, Experiment)):
        raise RegistryError(f"experiment {name!r}: expected a class derived from Experiment, got {declared!r:.60}")
    declared.name = name
    return declared


experiments: Registry[type[Experiment]] = Registry(
    "experiment", __package__.removesuffix("runner") + "experiments", "medcore_prune.experiments", _prepared
)


def register_experiment(name: str, *, source: str = "") -> Callable[[type[Experiment]], type[Experiment]]:
    """Return a decorator that makes a class a command of `medcore-bench`.

    Args:
        name: Lower-case letters, digits and underscores, a letter first.
        source: Where it comes from: a paper, a project.

    Raises:
        RegistryError: The name is badly formed or taken, or what is decorated is no `Experiment`.
    """
    return experiments.register(name, source=source)


@contextmanager
def running(settings: Settings) -> Iterator[None]:
    """Hold the folder of results, which no other run may; an interruption ends with what to do next."""
    try:
        with exclusive(settings.out), machines(settings.ray, settings.device):
            yield
    except KeyboardInterrupt:
        stored = len(list((settings.out / "cells").glob("**/*.json")))
        what = f"{stored} results are" if stored else "what is finished is"
        click.echo(f"\nstopped; {what} kept in {settings.out}: the same command goes on from there", err=True)
        sys.exit(INTERRUPTED)


class Draws(Mapping[int, Statistics]):
    """Calibration draw to its statistics, collected when they are first asked for; none where nothing is needed.

    One calibration serves all methods, levels and modes.
    """

    def __init__(self, inputs: Inputs, store: ResultStore, settings: Settings, needs: frozenset[Need]) -> None:
        self._inputs, self._store, self._settings, self._needs = inputs, store, settings, needs
        self._found: dict[int, Statistics] = {}

    def __getitem__(self, draw: int) -> Statistics:
        if draw not in range(len(self)):
            raise KeyError(draw)
        if draw not in self._found:
            samples = self._settings.counts.calibration
            self._found[draw] = calibrated_draw(self._inputs, self._store, self._settings, self._needs, draw, samples)
        return self._found[draw]

    def __iter__(self) -> Iterator[int]:
        return iter(range(len(self)))

    def __len__(self) -> int:
        return self._settings.seeds if self._needs else 0

    def digest(self, draw: int) -> str:
        """Hash of the samples of a draw, by which results know it; nothing is collected for it."""
        sets, samples = self._inputs.calibration(draw), self._settings.counts.calibration
        return digest(training_samples(sets, "calibration", samples, draw, self._inputs.frame))


def calibrated_draw(
    inputs: Inputs, store: ResultStore, settings: Settings, needs: frozenset[Need], draw: int, samples: int
) -> Statistics:
    """Calibrate on the first samples of one draw; sums over fewer of them are gone on from, and removed."""
    with measured() as taken:
        statistics = calibrate(
            inputs.adapted,
            inputs.reference,
            inputs.calibration(draw),
            samples,
            needs,
            cache_dir=settings.calibration_folder,
            seed=draw,
            keep_smaller=False,
        )
    # a calibration that grows, or a run that is gone on with, finds most of it stored: what earlier parts took is added
    earlier = store.analysis("calibration") or {}
    counts = earlier.get("samples", {})
    record = {
        "needs": sorted({*needs, *earlier.get("needs", [])}),
        "draws": max(draw + 1, earlier.get("draws", 0)),
        "seconds": taken.seconds + earlier.get("seconds", 0.0),
        "peak_bytes": max(taken.peak_bytes, earlier.get("peak_bytes", 0)),
        "samples": {name: max(count, counts.get(name, 0)) for name, count in statistics.counts.items()},
    }
    store.write_analysis("calibration", record)
    return statistics
