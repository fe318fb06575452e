"""The controlled comparison, from settings to stored results: the steps in order, each of which can be gone on with."""

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import click

from ..calibration import calibrate
from ..defaults import DEFAULTS
from ..errors import MedcorePruneError
from ..statistics import Statistics
from ..version import __version__
from .agreement import exact_agreement, fisher_methods
from .announce import amount, describe, duration, estimated_seconds, notice
from .evaluating import Evaluator, digest
from .gallery import make_gallery
from .inputs import Inputs, load_inputs
from .methods import Method, choose_methods, require_reference
from .planning import EXPERIMENT, make_jobs
from .results import ResultStore
from .settings import Settings
from .stability import stability


@dataclass(frozen=True)
class Comparison:
    """A comparison whose inputs have been loaded and checked.

    Attributes:
        settings: What was asked for.
        methods: What takes part, in the order of the tables.
        inputs: Models and data.
        store: Where results go.
    """

    settings: Settings
    methods: Sequence[Method]
    inputs: Inputs
    store: ResultStore

    @classmethod
    def prepare(cls, settings: Settings) -> "Comparison":
        """Load and check everything, so that what is wrong with the inputs is said before any work starts.

        Raises:
            MedcorePruneError: Methods, models, data or earlier results that cannot be used.
        """
        methods = choose_methods(settings)
        inputs = load_inputs(settings)
        require_reference(methods, inputs.reference is not None)
        store = ResultStore.create(settings.out, _about(settings, methods, inputs), fresh=settings.fresh)
        return cls(settings, methods, inputs, store)

    def run(self) -> None:
        """Do what is not stored yet.

        Raises:
            MedcorePruneError: A criterion failed, or a stored file is damaged.
        """
        settings, inputs = self.settings, self.inputs
        work = amount(self.methods, inputs, settings, len(self.store.cells()))
        for line in describe(self.methods, inputs, settings, work):
            click.echo(line)
        evaluator = Evaluator(inputs, settings, self.store)
        click.echo(f"about {duration(estimated_seconds(evaluator, self.methods, work))} if nothing is stored yet")
        evaluator.run_unpruned()
        statistics = self._calibrate()
        jobs = make_jobs(self.methods, inputs, statistics, settings, self.store)
        evaluator.samples_of.update({number: digest(each) for number, each in statistics.items()})
        evaluator.run(jobs)
        if statistics:
            self._analyse(statistics[0])
        if settings.gallery:
            make_gallery(evaluator, jobs)

    def _calibrate(self) -> dict[int, Statistics]:
        """Calibrate once for every draw; one calibration serves all methods, levels and modes."""
        needs = frozenset().union(*(method.needs for method in self.methods))
        if not needs:
            return {}
        statistics = {}
        start = time.perf_counter()
        for number in range(self.settings.seeds):
            statistics[number] = calibrate(
                self.inputs.adapted,
                self.inputs.reference,
                self.inputs.calibration(number),
                self.settings.counts.calibration,
                needs,
                cache_dir=self.settings.calibration_folder,
                seed=number,
                shards=_shards(self.settings.counts.calibration) if number == 0 else None,
            )
        seconds = time.perf_counter() - start
        state = {"needs": sorted(needs), "draws": len(statistics)}
        self._once("calibration", state, lambda: {"seconds": seconds, "samples": statistics[0].counts})
        return statistics

    def _analyse(self, statistics: Statistics) -> None:
        """Correlate scores with exact interventions, and with those of fewer samples."""
        if not (methods := fisher_methods(self.methods)):
            return
        state = {
            "samples": digest(statistics),
            "methods": {method.name: method.describe() for method in methods},
            "levels": [str(level) for level in self.settings.levels],
            "units": self.settings.counts.exact_units,
            "images": self.settings.counts.exact_images,
        }
        self._once("stability", state, lambda: stability(methods, self.inputs.adapted, statistics, self.settings))
        self._once("agreement", state, lambda: exact_agreement(methods, self.inputs, statistics, self.settings))

    def _once(self, name: str, state: dict[str, Any], make: Callable[[], dict[str, Any]]) -> None:
        """Store an analysis unless it is there for the same state."""
        stored = self.store.analysis(name)
        if stored is None or stored.get("state") != state:
            self.store.write_analysis(name, {"state": state, **make()})


def _shards(samples: int) -> list[int]:
    """Where the stability of rankings is looked at: a quarter and a half of the samples, an eighth of many."""
    return sorted({max(1, samples // part) for part in ((8, 4, 2) if samples >= 64 else (4, 2))})


def _about(settings: Settings, methods: Sequence[Method], inputs: Inputs) -> dict[str, Any]:
    """What `run.json` holds: the identity that results must share, and what the report says about the run."""
    if settings.subject not in [method.name for method in methods] and settings.subject != Settings.subject:
        raise MedcorePruneError(f"--compare {settings.subject}: no such method takes part")
    return {
        "identity": {
            "experiment": EXPERIMENT,
            "version": __version__,
            "model": settings.model,
            "image_size": inputs.image_size,
            "inputs": inputs.hashes,
            "role": settings.role,
            "eval_size": settings.eval_size,
            "tolerance_px": settings.tolerance_px,
            "calibration_samples": settings.counts.calibration,
            "split_seed": settings.split_seed,
            "defaults": asdict(DEFAULTS),
        },
        "notice": notice(inputs),
        "subject": settings.subject,
        "methods": {method.name: method.describe() for method in methods},
        "draws": settings.counts.draws,
        "device": settings.device,
        "data": {name: {"images": len(each), "groups": len(set(each.groups))} for name, each in inputs.sets.items()},
        "adapted": str(settings.adapted.name) if settings.adapted else "pocket pair, adapted",
        "reference": settings.reference.name
        if settings.reference
        else ("pocket pair, reference" if inputs.reference else ""),
    }
