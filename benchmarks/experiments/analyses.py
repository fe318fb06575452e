"""How far Fisher scores can be trusted: their rank correlation with exact interventions on a sample of units, and
whether the reference responds to the images at all.
"""

import sys
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from scipy.stats import spearmanr
from torch import Tensor, nn

from ..._support.memo import Memo
from ..._support.progress import track
from ..._support.records import content_hash
from ..._support.version import __version__
from ...calibration.collector import Need, Role, prunable_layers
from ...calibration.interventions import RiskData, exact_interventions
from ...calibration.statistics import Statistics
from ...data.samples import SampleSet, Subset
from ...models.groups import FAMILY_NAMES, Family, StructuredGroup, groups_of
from ...pruning.budget import default_protect
from ...pruning.planning import make_plan
from ...scoring.criterion import unit_scores
from ..runner.experiment import calibrated_draw
from ..runner.inputs import Inputs
from ..runner.jobs import Scores
from ..runner.methods import Method
from ..runner.settings import Settings
from ..runner.store import ResultStore, arrays


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
    methods: Sequence[Method],
    inputs: Inputs,
    strength: Mapping[str, float],
    settings: Settings,
    scores: Mapping[str, Scores],
    progress: bool = True,
) -> dict[str, Any]:
    """Correlate the scores of each Fisher method with what removing or resetting a unit really does to the loss.

    `strength` is that of the reference, which stands beside the table.

    Returns `units`, `images`, and for each method and family Spearman's rank correlation with the zero intervention
    and, where there is a reference, with the reset intervention; None where it is undefined.
    """
    groups = groups_of(inputs.adapted)
    units = draw_units(groups, settings.counts.exact_units)
    exact = _exact(inputs, groups, units, settings, progress)
    rows = {}
    for method in fisher_methods(methods):
        found = scores[method.name]
        sampled = [
            found[g.block, g.family][torch.tensor(u, dtype=torch.long)] for g, u in zip(groups, units, strict=True)
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
        "reference_fisher": dict(strength),
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


def stability(
    methods: Sequence[Method],
    inputs: Inputs,
    store: ResultStore,
    settings: Settings,
    scores: Mapping[str, Scores],
    renewed: Collection[str] = (),
) -> dict[str, Any]:
    """Compare the ranking from the first n calibration samples of each data set with the ranking from all.

    Returns `samples` (the n), `level` (the middle one, where removed units are compared), and for each method and
    family two lists along n: `spearman`, the mean over blocks of the rank correlation of scores, and `overlap`, the
    share of removed units that are the same.

    `scores` has those from all samples by method; of `renewed` methods those from fewer are taken again.
    """
    samples, model = early_samples(inputs, settings), inputs.adapted
    level = settings.levels[len(settings.levels) // 2]
    early = early_scores(methods, inputs, store, settings, renewed)
    rows: dict[str, Any] = {}
    for method in fisher_methods(methods):
        whole = scores[method.name]
        along = [*(early[method.name, n] for n in samples), whole]
        rows[method.name] = {
            family: {
                "spearman": [_mean(each, whole, family) for each in along],
                "overlap": [_overlap(each, whole, family, model, str(level)) for each in along],
            }
            for family in FAMILY_NAMES
        }
    most = max(min(len(each), settings.counts.calibration) for each in inputs.calibration(0).values())
    return {"samples": [*samples, most], "level": str(level), "methods": rows}


def early_samples(inputs: Inputs, settings: Settings) -> list[int]:
    """Where the stability of rankings is looked at: a quarter and a half of the samples, an eighth of many.

    Besides all of them, and no more than every data set has.
    """
    asked, least = settings.counts.calibration, min(map(len, inputs.calibration(0).values()))
    parts = (8, 4, 2) if asked >= 64 else (4, 2)
    return [n for n in sorted({max(1, asked // part) for part in parts}) if n < min(asked, least)]


def early_scores(
    methods: Sequence[Method], inputs: Inputs, store: ResultStore, settings: Settings, renewed: Collection[str] = ()
) -> dict[tuple[str, int], Scores]:
    """Scores of Fisher methods from the first samples of each data set, by name and number of samples.

    They are kept, kilobytes, and not the sums that they come from: a calibration grows from one number of samples to
    the next, and the one of all samples goes on from the last. Those of `renewed` methods are taken again. Every number
    of samples has sums, and so equations, of its own: one scoring for each, and none from all samples besides.
    """
    chosen, found = fisher_methods(methods), dict[tuple[str, int], Scores]()
    for n in early_samples(inputs, settings):
        kept = {method.name: _kept(method, n, inputs, store, settings) for method in chosen}
        todo = [method for method in chosen if method.name in renewed or kept[method.name].get() is None]
        if todo:
            needs = frozenset[Need]().union(*(method.needs for method in todo))
            statistics = calibrated_draw(inputs, store, settings, needs, 0, n)
            for method in track(todo, f"scores from {n} samples", total=len(todo)):
                scores = unit_scores(method.recipe.build(statistics, inputs.adapted), inputs.adapted)
                kept[method.name].put({_name(key): values.numpy() for key, values in scores.items()})
        for method in chosen:
            values = kept[method.name].get()
            assert values is not None
            groups = groups_of(inputs.adapted)
            keys = [(group.block, group.family) for group in groups]
            found[method.name, n] = {key: torch.from_numpy(values[_name(key)]) for key in keys}
    return found


def _name(key: tuple[int, Family]) -> str:
    return f"{key[0]}-{key[1]}"


def _kept(method: Method, n: int, inputs: Inputs, store: ResultStore, settings: Settings) -> Memo[Mapping[str, Any]]:
    hashes = {name: inputs.hashes[name] for name in ("adapted", "reference", "calibration")}
    place = store.root / "analysis" / "scores" / f"{method.name}-{n}.npz"
    return arrays(place, content_hash([method.fingerprint, n, hashes, settings.precision, __version__]))


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
