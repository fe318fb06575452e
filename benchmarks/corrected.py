"""The same plans followed by the training-free correction: a corrected row beside each method (METHOD section 12)."""

import hashlib
import inspect
from collections.abc import Sequence
from dataclasses import replace

from torch import nn

from ..correction.correct import Corrector, correct
from ..correction.settings import CorrectionSettings
from ..pruning.plan import Plan
from ..pruning.surgery import prune
from .inputs import Inputs, Sets, sample_hash
from .methods import Method
from .planning import Job, Treatment
from .settings import CORRECTED, CORRECTED_FROM, Settings


def correction(sets: Sets, samples: int, seed: int = 0) -> Treatment:
    """Cut, then correct on calibration images.

    Args:
        sets: Calibration samples by data set.
        samples: Images of each set that are read.
        seed: Of the draw among them.
    """

    correctors: dict[nn.Module, Corrector] = {}

    def build(model: nn.Module, plan: Plan) -> nn.Module:
        small = prune(model, plan)
        if model not in correctors:
            correctors[model] = Corrector(model, sets, CorrectionSettings(), samples, seed, progress=False, keep=True)
        correctors[model].correct(small)
        return small

    what = f"{inspect.signature(correct)} {sample_hash(sets)} {samples} {seed}"
    return Treatment(hashlib.sha256(what.encode()).hexdigest()[:24], build)


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
        treatments[draw] = correction(inputs.calibration(draw), settings.counts.correction, draw)
    return [replace(job, mode=CORRECTED, treatment=treatments[job.seed % settings.seeds]) for job in chosen]
