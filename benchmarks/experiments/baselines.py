"""`medcore-bench baselines`: the controlled comparison of the paper's Table 5, after the floors, without recovery."""

import hashlib
import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from socket import gethostname
from typing import Any

from torch import nn

from ..._support.errors import DataError, MedcorePruneError, UnknownNameError
from ..._support.registry import BUILT_IN, unknown_name
from ...calibration.collector import Need
from ...correction.correct import TOGETHER, Corrector, correct
from ...correction.settings import CorrectionSettings
from ...pruning.plan import Plan
from ...pruning.surgery import prune
from ..report import comparison
from ..report.gallery import make_gallery
from ..report.hurt import make_hurt
from ..report.page import Page, left_out, write_results
from ..runner.evaluate import duration
from ..runner.experiment import Experiment, register_experiment
from ..runner.inputs import Inputs, inputs_again, sample_hash
from ..runner.jobs import EXPERIMENT, Job, Scores, Treatment, keep_plan, make_jobs
from ..runner.methods import Method, choose_methods, require_reference, without_reference
from ..runner.settings import CORRECTED, CORRECTED_FROM, MODES, SUBJECT, Settings
from ..runner.store import ResultStore
from .amount import amount, describe, estimated_seconds
from .analyses import early_samples, early_scores, exact_agreement, fisher_methods, reference_strength, stability
from .searched import searched_jobs


class Corrected:
    """Makes models that are cut, then corrected; another process reads the images of the draw itself."""

    def __init__(self, inputs: Inputs, settings: Settings, draw: int) -> None:
        self._inputs, self._settings, self._draw = inputs, settings, draw
        self._correctors: dict[nn.Module, Corrector] = {}

    def __call__(self, model: nn.Module, plans: Sequence[Plan]) -> list[nn.Module]:
        smalls = [prune(model, plan) for plan in plans]
        if model not in self._correctors:
            sets, samples = self._inputs.calibration(self._draw), self._settings.counts.correction
            self._correctors[model] = Corrector(
                model, sets, CorrectionSettings(), samples, self._draw, progress=False, keep=True
            )
        self._correctors[model].correct_all(smalls)
        return smalls

    def __reduce__(self) -> tuple[Any, ...]:
        hashes = tuple(sorted(self._inputs.hashes.items()))
        sample = sample_hash(self._inputs.calibration(self._draw))
        return _corrected_again, (self._settings, hashes, self._draw, sample)


@lru_cache(maxsize=1)
def _corrected_again(
    settings: Settings, hashes: tuple[tuple[str, str | None], ...], draw: int, sample: str
) -> Corrected:
    inputs = inputs_again(settings, hashes)
    if sample_hash(inputs.calibration(draw)) != sample:
        raise DataError(
            f"worker on {gethostname()}: the images of draw {draw} are not what the command reads: expected the same "
            "files at the same places on all machines"
        )
    return Corrected(inputs, settings, draw)


def correction(inputs: Inputs, settings: Settings, draw: int = 0) -> Treatment:
    """Cut, then correct on the calibration images of a draw, as many of each set as the settings say."""
    sample, count = sample_hash(inputs.calibration(draw)), settings.counts.correction
    what = f"{inspect.signature(correct)} {sample} {count} {draw} {settings.precision}"
    key = hashlib.sha256(what.encode()).hexdigest()[:24]
    return Treatment(key, Corrected(inputs, settings, draw), TOGETHER)


def corrected_jobs(jobs: Sequence[Job], methods: Sequence[Method], inputs: Inputs, settings: Settings) -> list[Job]:
    """Repeat the jobs of own quotas with the correction; of a stochastic method the first seeds alone."""
    stochastic = {method.name for method in methods if method.recipe.stochastic}
    treatments: dict[int, Treatment] = {}
    chosen = [
        job
        for job in jobs
        if job.mode == CORRECTED_FROM and (job.method not in stochastic or job.seed < settings.counts.corrected_seeds)
    ]
    for draw in {job.seed % settings.seeds for job in chosen}:
        treatments[draw] = correction(inputs, settings, draw)
    return [replace(job, mode=CORRECTED, treatment=treatments[job.seed % settings.seeds]) for job in chosen]


@register_experiment(EXPERIMENT)
@dataclass
class Baselines(Experiment):
    """Compare pruning methods on the same groups, levels, images and seeds, with no recovery."""

    modes = MODES

    def __post_init__(self) -> None:
        self._scores: dict[tuple[str, int], Scores] = {}
        self._left_out: list[str] = []

    def choose(self) -> list[Method]:
        methods, subject = choose_methods(self.settings), self.settings.subject
        names = [method.name for method in methods]
        if subject not in (*names, SUBJECT):
            raise UnknownNameError(f"--compare: {unknown_name('method of this comparison', subject, names)}")
        if self.settings.search and self.settings.seeds != 1:
            raise MedcorePruneError("--search looks at one calibration sample: leave --set seeds at 1")
        return methods

    def able(self) -> list[Method]:
        """Without a reference, methods that compare with one are left out, unless they were named."""
        chosen, subject = self.settings.methods, self.settings.subject
        if self.inputs.reference is not None or chosen:
            return super().able()
        require_reference([method for method in self.methods if method.name == subject != SUBJECT], False)
        able = without_reference(self.methods)
        self._left_out = [method.name for method in self.methods if method not in able]
        return able

    def about(self) -> Mapping[str, Any]:
        return {"left_out": self._left_out}

    def announced(self) -> Iterator[str]:
        if self._left_out:
            yield f"note: {left_out(self._left_out)}; give --reference FILE to compare them too"
        work = amount(self.methods, self.inputs, self.settings, [result.cell for result in self.store.cells()])
        yield from describe(self.methods, self.inputs, self.settings, work)
        if work.stored < work.cells:
            seconds = estimated_seconds(self.evaluator, self.methods, work)
            yield f"about {duration(seconds)} if nothing is stored yet"

    def jobs(self) -> list[Job]:
        # before the whole calibration, which goes on from the sums that these are read from
        early_scores(self.methods, self.inputs, self.store, self.settings)
        methods, inputs, settings = self.methods, self.inputs, self.settings
        jobs = make_jobs(methods, inputs, self.statistics, settings, self.store, keep=self._scores)
        if settings.correct:
            jobs += corrected_jobs(jobs, methods, inputs, settings)
        if settings.search:
            read = (methods, inputs, settings, self.statistics, self.store)
            searched = list(searched_jobs(*read, correction(inputs, settings), self._scores))
            for job in searched:
                keep_plan(self.store, job.plan)
            jobs += searched
        return jobs

    def measure(self) -> None:
        """Evaluate what is not pruned, then the plans; look into the scores, and keep pictures."""
        self.evaluator.run_unpruned()
        jobs = self.jobs()
        self.evaluator.run(jobs)
        if self.statistics:
            self._analyse(jobs)
        if self.settings.gallery:
            make_gallery(self.evaluator, jobs)
            make_hurt(self.evaluator, jobs)
        if self._forgets:
            self.store.remove_sums()

    @property
    def _forgets(self) -> bool:
        """Whether the sums of the calibration go at the end, and the scores that were made of them stay.

        Sums are hundreds of megabytes, scores kilobytes. Where somebody named a place for sums they stay, and so do
        those that code of a user's own reads: it may change where no hash of the method tells.
        """
        return self.settings.cache is None and all(m.origin == BUILT_IN for m in self.methods if m.needs)

    @staticmethod
    def page(store: ResultStore) -> Page:
        return comparison.page(store)

    def show(self) -> None:
        """Write the page, with pictures if they were asked for."""
        write_results(self.store, comparison.page(self.store, gallery=self.settings.gallery))

    def _analyse(self, jobs: Sequence[Job]) -> None:
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
            "samples": self.statistics.digest(0),
            "precision": self.settings.precision,
            "levels": [str(level) for level in self.settings.levels],
            "units": counts.exact_units,
            "images": counts.exact_images,
            "early": early_samples(self.inputs, self.settings),
        }
        scores = {name: self._scores[name, method.seeds[0]] for name, method in methods.items()}
        inputs, store, settings = self.inputs, self.store, self.settings
        for name, analyse in (
            ("stability", lambda chosen, again: stability(chosen, inputs, store, settings, scores, again)),
            ("agreement", lambda chosen, _: exact_agreement(chosen, inputs, self._strength(), settings, scores)),
        ):
            self._add_analysis(name, state, of_method, methods, analyse)

    def _strength(self) -> Mapping[str, float]:
        """How much the reference responds to the images; kept, for the sums that tell it go."""
        if not any(Need.REFERENCE_FISHER in method.needs for method in self.methods):
            return {}
        of = {"samples": self.statistics.digest(0), "precision": self.settings.precision}
        stored = self.store.analysis("reference_fisher") or {}
        if {name: stored.get(name) for name in of} != of:
            stored = {**of, "ratios": reference_strength(self.statistics[0], self.inputs.adapted)}
            self.store.write_analysis("reference_fisher", stored)
        ratios: Mapping[str, float] = stored["ratios"]
        return ratios

    def _add_analysis(
        self,
        name: str,
        state: Mapping[str, Any],
        of_method: Mapping[str, Any],
        methods: Mapping[str, Method],
        analyse: Callable[[list[Method], list[str]], dict[str, Any]],
    ) -> None:
        """Analyse the methods whose stored analysis is not of the same scores; those of other methods stay.

        `analyse` is also told the names of those whose scores are others under the same code.
        """
        stored = self.store.analysis(name) or {}
        if stored.get("state") != state:
            stored = {}
        known = stored.get("of_method", {})
        open_methods = [method for key, method in methods.items() if known.get(key) != of_method[key]]
        if open_methods:
            again = [m.name for m in open_methods if known.get(m.name, {}).get("fingerprint") == m.fingerprint]
            made = analyse(open_methods, again)
            rows = {**stored.get("methods", {}), **made["methods"]}
            kept = {"state": state, "of_method": {**known, **of_method}, **made, "methods": rows}
            self.store.write_analysis(name, kept)


command = Baselines.command()
