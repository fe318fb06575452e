"""The controlled comparison, from settings to stored results: the steps in order, each of which can be gone on with."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import click

from .._support.errors import MedcorePruneError
from .._support.registry import unknown_name
from ..calibration.statistics import Statistics
from .agreement import exact_agreement, fisher_methods
from .announce import amount, describe, duration, estimated_seconds
from .corrected import corrected_jobs
from .evaluating import Evaluator, digest
from .experiment import begin, calibrated
from .gallery import make_gallery
from .inputs import Inputs
from .methods import Method, choose_methods
from .planning import EXPERIMENT, Job, make_jobs
from .results import ResultStore
from .settings import MODES, Settings
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
        names = [method.name for method in methods]
        if settings.subject not in (*names, Settings.subject):
            raise MedcorePruneError(f"--compare: {unknown_name('method of this comparison', settings.subject, names)}")
        inputs, store = begin(settings, EXPERIMENT, methods=methods, modes=MODES)
        return cls(settings, methods, inputs, store)

    def run(self) -> None:
        """Do what is not stored yet.

        Raises:
            MedcorePruneError: A criterion failed, or a stored file is damaged.
        """
        settings, inputs = self.settings, self.inputs
        work = amount(self.methods, inputs, settings, [result.cell for result in self.store.cells()])
        for line in describe(self.methods, inputs, settings, work):
            click.echo(line)
        evaluator = Evaluator(inputs, settings, self.store)
        if work.stored < work.cells:
            click.echo(f"about {duration(estimated_seconds(evaluator, self.methods, work))} if nothing is stored yet")
        evaluator.run_unpruned()
        needs = frozenset().union(*(method.needs for method in self.methods))
        statistics = calibrated(inputs, self.store, settings, needs)
        jobs = make_jobs(self.methods, inputs, statistics, settings, self.store)
        if settings.correct:
            jobs += corrected_jobs(jobs, self.methods, inputs, settings)
        evaluator.samples_of.update({number: digest(each) for number, each in statistics.items()})
        evaluator.run(jobs)
        if statistics:
            self._analyse(statistics[0], jobs)
        if settings.gallery:
            make_gallery(evaluator, jobs)

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
