"""Whether a ranking holds with fewer calibration samples: the stored sums make it free to ask."""

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
from torch import Tensor, nn

from .._support.progress import track
from ..calibration.statistics import Statistics
from ..models.groups import FAMILY_NAMES, Family
from ..pruning.planning import make_plan
from ..scoring.criterion import unit_scores
from .agreement import fisher_methods, spearman
from .methods import Method
from .settings import Settings

Scores: TypeAlias = Mapping[tuple[int, Family], Tensor]


def stability(
    methods: Sequence[Method], model: nn.Module, statistics: Statistics, settings: Settings, progress: bool = True
) -> dict[str, Any]:
    """Compare the ranking from the first n calibration samples of each data set with the ranking from all.

    Args:
        methods: Those without calibrated scores are left out.
        model: The adapted model.
        statistics: With several shard boundaries.
        settings: The middle one of its levels is where removed units are compared.
        progress: Whether to show progress.

    Returns:
        `samples` (the n), `level`, and for each method and family two lists along n: `spearman`, the mean over blocks
        of the rank correlation of scores, and `overlap`, the share of removed units that are the same.
    """
    samples = statistics.boundaries()
    level = settings.levels[len(settings.levels) // 2]
    chosen = fisher_methods(methods)
    scores: dict[tuple[str, int], Scores] = {}
    pairs = [(method, n) for method in chosen for n in samples]
    for method, n in track(pairs, "rank stability", total=len(pairs), show=progress):
        scores[method.name, n] = unit_scores(method.recipe.build(statistics.take(n), model), model)
    rows: dict[str, Any] = {}
    for method in chosen:
        whole = scores[method.name, samples[-1]]
        rows[method.name] = {
            family: {
                "spearman": [_mean(scores[method.name, n], whole, family) for n in samples],
                "overlap": [_overlap(scores[method.name, n], whole, family, model, str(level)) for n in samples],
            }
            for family in FAMILY_NAMES
        }
    return {"samples": samples, "level": str(level), "methods": rows}


def _mean(scores: Scores, whole: Scores, family: Family) -> float | None:
    found = [spearman(scores[key], whole[key]) for key in whole if key[1] == family]
    known = [value for value in found if value is not None]
    return float(np.mean(known)) if known else None


def _overlap(scores: Scores, whole: Scores, family: Family, model: nn.Module, level: str) -> float:
    """Share of the units that `whole` removes which `scores` removes too."""
    plans = [make_plan(model, level, scores=each) for each in (scores, whole)]
    kept = [{(b.block, unit) for b in plan.blocks for unit in b.keep(family)} for plan in plans]
    everything = {(b.block, unit) for b in plans[0].blocks for unit in range(b.size(family))}
    gone, gone_of_whole = everything - kept[0], everything - kept[1]
    return len(gone & gone_of_whole) / max(1, len(gone_of_whole))
