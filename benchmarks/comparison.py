"""The controlled comparison, from settings to stored results: the steps in order, each of which can be gone on with."""

from collections.abc import Callable, Mapping, Sequence
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
from .measure import measured
from .methods import Method, choose_methods, require_reference
from .planning import EXPERIMENT, Job, make_jobs
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
            self._analyse(statistics[0], jobs)
        if settings.gallery:
            make_gallery(evaluator, jobs)

    def _calibrate(self) -> dict[int, Statistics]:
        """Calibrate once for every draw; one calibration serves all methods, levels and modes."""
        needs = frozenset().union(*(method.needs for method in self.methods))
        if not needs:
            return {}
        statistics = {}
        with measured() as taken:
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
        # a run that is gone on with finds most of it stored: what earlier parts took is added
        earlier = self.store.analysis("calibration") or {}
        record = {
            "needs": sorted({*needs, *earlier.get("needs", [])}),
            "draws": max(len(statistics), earlier.get("draws", 0)),
            "seconds": taken.seconds + earlier.get("seconds", 0.0),
            "peak_bytes": max(taken.peak_bytes, earlier.get("peak_bytes", 0)),
            "samples": statistics[0].counts,
        }
        self.store.write_analysis("calibration", record)
        return statistics

    def _analyse(self, statistics: Statistics, jobs: Sequence[Job]) -> None:
        """Correlate scores with exact interventions, and with those of fewer samples."""
        methods = {method.name: method for method in fisher_methods(self.methods)}
        plans = {
            name: [job.plan.hash for job in jobs if (job.method, job.seed) == (name, method.seeds[0])]
            for name, method in methods.items()
        }
        # plans tell one score from another even where the code of a criterion changed out of sight
        of_method = {
            name: {"fingerprint": method.fingerprint, "plans": plans[name]} for name, method in methods.items()
        }
        counts = self.settings.counts
        state = {
            "samples": digest(statistics),
            "levels": [str(level) for level in self.settings.levels],
            "units": counts.exact_units,
            "images": counts.exact_images,
        }
        for name, analyse in (
            ("stability", lambda chosen: stability(chosen, self.inputs.adapted, statistics, self.settings)),
            ("agreement", lambda chosen: exact_agreement(chosen, self.inputs, statistics, self.settings)),
        ):
            self._add_analysis(name, state, of_method, methods, analyse)

    def _add_analysis(
        self,
        name: str,
        state: Mapping[str, Any],
        of_method: Mapping[str, Any],
        methods: Mapping[str, Method],
        analyse: Callable[[list[Method]], dict[str, Any]],
    ) -> None:
        """Analyse the methods whose stored analysis is not of the same scores; those of other methods stay."""
        stored = self.store.analysis(name) or {}
        if stored.get("state") != state:
            stored = {}
        known = stored.get("of_method", {})
        open_methods = [method for key, method in methods.items() if known.get(key) != of_method[key]]
        if open_methods:
            made = analyse(open_methods)
            rows = {**stored.get("methods", {}), **made["methods"]}
            kept = {"state": state, "of_method": {**known, **of_method}, **made, "methods": rows}
            self.store.write_analysis(name, kept)


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
