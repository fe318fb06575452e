"""How far Fisher scores can be trusted: their rank correlation with exact interventions on a sample of units, and
whether the reference responds to the images at all.
"""

import sys
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
import torch
from scipy.stats import spearmanr
from torch import Tensor, nn

from ..._support.progress import track
from ...calibration.collector import Need, Role, prunable_layers
from ...calibration.interventions import RiskData, exact_interventions
from ...calibration.statistics import Statistics
from ...data.samples import SampleSet, Subset
from ...models.groups import FAMILY_NAMES, Family, StructuredGroup, groups_of
from ...pruning.budget import default_protect
from ...pruning.planning import make_plan
from ...scoring.criterion import unit_scores
from ..runner.inputs import Inputs
from ..runner.methods import Method
from ..runner.settings import Settings


def fisher_methods(methods: Sequence[Method]) -> list[Method]:
    """Methods whose scores are read from calibration statistics and are quick to take again."""
    return [
        method for method in methods if method.needs and method.recipe.cost != "slow" and not method.recipe.stochastic
    ]


def draw_units(groups: Sequence[StructuredGroup], count: int, seed: int = 0) -> list[list[int]]:
    """Draw `count` heads and as many neurons, all where there are fewer, from the blocks that may be pruned.

    Returns unit indices of each group, ascending.
    """
    rng = np.random.default_rng(seed)
    blocks = len(groups) // len(FAMILY_NAMES)
    open_blocks = blocks - default_protect(blocks)
    chosen: list[list[int]] = [[] for _ in groups]
    for family in FAMILY_NAMES:
        pool = [
            (place, unit)
            for place, group in enumerate(groups)
            if group.family == family and group.block < open_blocks
            for unit in range(group.n_units)
        ]
        for index in rng.permutation(len(pool))[:count]:
            place, unit = pool[index]
            chosen[place].append(unit)
    return [sorted(units) for units in chosen]


def exact_agreement(
    methods: Sequence[Method], inputs: Inputs, statistics: Statistics, settings: Settings, progress: bool = True
) -> dict[str, Any]:
    """Correlate the scores of each Fisher method with what removing or resetting a unit really does to the loss.

    Returns `units`, `images`, and for each method and family Spearman's rank correlation with the zero intervention
    and, where there is a reference, with the reset intervention; None where it is undefined.
    """
    groups = groups_of(inputs.adapted)
    units = draw_units(groups, settings.counts.exact_units)
    exact = _exact(inputs, groups, units, settings, progress)
    rows = {}
    for method in fisher_methods(methods):
        scores = unit_scores(method.recipe.build(statistics, inputs.adapted), inputs.adapted)
        sampled = [
            scores[g.block, g.family][torch.tensor(u, dtype=torch.long)] for g, u in zip(groups, units, strict=True)
        ]
        rows[method.name] = {
            family: {
                name: spearman(_of(family, groups, sampled), _of(family, groups, costs))
                for name, costs in exact.items()
            }
            for family in FAMILY_NAMES
        }
    counts = {
        family: sum(len(u) for g, u in zip(groups, units, strict=True) if g.family == family) for family in FAMILY_NAMES
    }
    return {
        "units": counts,
        "images": settings.counts.exact_images,
        "data_sets": len(inputs.sets),
        "methods": rows,
        "reference_fisher": reference_strength(statistics, inputs.adapted),
    }


def reference_strength(statistics: Statistics, model: nn.Module) -> dict[str, float]:
    """Mean Fisher of the reference over that of the adapted model by data set, at the default lambda_B; empty without.

    Cross-Fisher (Eq. 11) is the root of their product. Where a reference does not respond to the images its Fisher is
    next to nothing, and so is the reset term.
    """
    if not statistics.has(Need.REFERENCE_FISHER):
        return {}
    layers = list(prunable_layers(model))

    def total(dataset: str, which: Role) -> float:
        pairs = (statistics.fisher(dataset, layer, which=which) for layer in layers)
        return sum(float(tensor.double().sum()) for pair in pairs for tensor in pair)

    return {
        name: total(name, "reference") / max(total(name, "adapted"), sys.float_info.min) for name in statistics.datasets
    }


def _exact(
    inputs: Inputs,
    groups: Sequence[StructuredGroup],
    units: Sequence[Sequence[int]],
    settings: Settings,
    progress: bool,
) -> dict[str, list[Tensor]]:
    """Both interventions, averaged over data sets: intervention to one tensor a group."""
    data = {name: _prepared(samples, inputs, settings) for name, samples in inputs.calibration(0).items()}
    references: dict[str, nn.Module | None] = {"zero": None}
    if inputs.reference is not None:
        references["reset"] = inputs.reference
    exact = {}
    for name, reference in references.items():
        of_set = exact_interventions(
            inputs.adapted, groups, data, reference=reference, units=units, progress=progress
        ).values()
        exact[name] = [torch.stack(of_group).mean(0) for of_group in zip(*of_set, strict=True)]
    return exact


def _prepared(samples: SampleSet, inputs: Inputs, settings: Settings) -> RiskData:
    count = min(len(samples), settings.counts.exact_images)
    return RiskData.of(Subset(samples, tuple(range(count)), samples.name), inputs.frame)


def _of(family: Family, groups: Sequence[StructuredGroup], values: Sequence[Tensor]) -> Tensor:
    return torch.cat([part for group, part in zip(groups, values, strict=True) if group.family == family])


def spearman(first: Tensor, second: Tensor) -> float | None:
    """Rank correlation of two vectors; None for fewer than three values or where all are equal."""
    if len(first) < 3 or bool((first == first[0]).all()) or bool((second == second[0]).all()):
        return None
    return float(spearmanr(first.double().numpy(), second.double().numpy()).statistic)


Scores: TypeAlias = Mapping[tuple[int, Family], Tensor]


def stability(
    methods: Sequence[Method], model: nn.Module, statistics: Statistics, settings: Settings, progress: bool = True
) -> dict[str, Any]:
    """Compare the ranking from the first n calibration samples of each data set with the ranking from all.

    Returns `samples` (the n), `level` (the middle one, where removed units are compared), and for each method and
    family two lists along n: `spearman`, the mean over blocks of the rank correlation of scores, and `overlap`, the
    share of removed units that are the same.
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
