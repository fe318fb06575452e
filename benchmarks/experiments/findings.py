"""How each claim of the paper is decided: a verdict, with the interval that it rests on."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import pairwise

import numpy as np

from ...evaluation.intervals import TOO_FEW_GROUPS, Array, Interval, holm, interval, p_value
from ...pruning.level import Level
from ..report.plots.landscape import lost
from ..report.summary import SIGNIFICANT, Place, Summary, summarise
from ..runner.store import NO_LEVEL, UNPRUNED, ResultStore
from .leverage.sweep import HEADLINE
from .main import UNPRUNED_RECOVERED


class Verdict(StrEnum):
    """Whether a claim shows here."""

    HOLDS = "holds"
    DOES_NOT = "does not hold"
    UNDECIDED = "undecided"
    TOO_FEW = TOO_FEW_GROUPS


@dataclass(frozen=True)
class Finding:
    """What was measured about a claim: the figures in a sentence, and the one that decides, where one does.

    Above 0 the claim holds.
    """

    verdict: Verdict
    measured: str
    value: Interval | None = None


def judged(value: Interval) -> Verdict:
    """Above 0 the claim holds, below it does not, and an interval that holds 0 decides nothing."""
    if value.holds_zero:
        return Verdict.UNDECIDED
    return Verdict.HOLDS if value.value > 0 else Verdict.DOES_NOT


def _all_of(values: Sequence[Interval]) -> Verdict:
    """What takes several figures above 0 holds with all of them, and falls with one of them below."""
    verdicts = {judged(value) for value in values}
    if verdicts == {Verdict.HOLDS}:
        return Verdict.HOLDS
    return Verdict.DOES_NOT if Verdict.DOES_NOT in verdicts else Verdict.UNDECIDED


def text(value: Interval) -> str:
    """Write a difference of BF1 with its interval."""
    return f"{value.value:+.3f} [{value.low:+.3f}, {value.high:+.3f}]"


def _draws(summary: Summary, place: Place) -> tuple[float, Array]:
    drawn = summary.drawn[place]
    return drawn.points["bf1"], drawn.draws["bf1"]


def _mean(values: Sequence[tuple[float, Array]]) -> tuple[float, Array]:
    return float(np.mean([point for point, _ in values])), np.mean([draws for _, draws in values], axis=0)


def _minus(one: tuple[float, Array], other: tuple[float, Array]) -> Interval:
    return interval(one[0] - other[0], one[1] - other[1])


def first_on_bf1(store: ResultStore) -> Finding:
    """The subject has the best BF1 at every level, significantly; it has not where a method is significantly ahead."""
    summary = summarise(store)
    ranks = {r.level: r for r in summary.ranks if (r.mode, r.metric) == ("own", "bf1")}
    found = [d for d in summary.differences if (d.mode, d.metric) == ("own", "bf1")]
    better = sum(d.verdict == "better" for d in found)
    worse = sum(d.verdict == "worse" for d in found)
    first = all(rank.rank == 1 for rank in ranks.values())
    verdict = Verdict.DOES_NOT if worse else Verdict.UNDECIDED
    if first and found and better == len(found):
        verdict = Verdict.HOLDS
    places = ", ".join(f"{level} {rank.rank} of {rank.of}" for level, rank in ranks.items())
    return Finding(verdict, f"rank {places}; of {len(found)} comparisons {better} significantly better, {worse} worse")


def margin_grows(store: ResultStore) -> Finding:
    """The subject's lead over the mean of the Fisher baselines is larger at the strongest level than at the mildest."""
    summary = summarise(store)
    levels = summary.levels
    margins = [_margin(summary, level) for level in (levels[0], levels[-1])]
    growth = _minus(margins[1], margins[0])
    each = ", ".join(f"{level} {_margin(summary, level)[0]:+.3f}" for level in levels)
    return Finding(
        judged(growth),
        f"lead over the mean of the Fisher baselines: {each}; growth from first to last {text(growth)}",
        growth,
    )


RIVALS = ("zero_fisher", "vanilla_fisher", "original_medcore")
"""The paper's strongest baselines; a best one picked on test images would flatter the others."""


def _margin(summary: Summary, level: str) -> tuple[float, Array]:
    others = [row for row in summary.of("own", level) if row.method in RIVALS]
    own = _draws(summary, ("own", level, summary.subject))
    point, draws = _mean([_draws(summary, ("own", level, row.method)) for row in others])
    return own[0] - point, own[1] - draws


def boundary_matters_most(store: ResultStore) -> Finding:
    """Leaving out the boundary Fisher costs more BF1 than leaving out either other part, averaged over levels."""
    summary = summarise(store)

    def over_levels(variant: str) -> tuple[float, Array]:
        return _mean([_draws(summary, ("own", level, variant)) for level in _one_time(summary)])

    without = over_levels("without_boundary_fisher")
    pairs = {name: _minus(over_levels(name), without) for name in ("without_reset", "without_variance")}
    own = _minus(over_levels("full"), without)
    # what does not help at all cannot help most
    verdict = _all_of([own, *pairs.values()])
    said = "; ".join(f"minus what the {name[len('without_') :]} adds {text(value)}" for name, value in pairs.items())
    smallest = min([own, *pairs.values()], key=lambda value: value.value)
    return Finding(verdict, f"BF1 that the boundary Fisher adds: {text(own)}, {said} (mean over levels)", smallest)


def _one_time(summary: Summary) -> list[str]:
    """Levels without fine-tuning, mildest first."""
    return [level for level in summary.levels if summary.of("own", level)]


_SATURATED = 0.7
"""Share of a family from which on a level is near saturation."""


def parts_matter_at_extremes(store: ResultStore) -> Finding:
    """Reset and variance each add BF1 at the strongest level, which has to be an extreme one."""
    summary = summarise(store)
    level = _one_time(summary)[-1]
    asked = Level.parse(level)
    if min(asked.heads, asked.neurons) < _SATURATED:
        return Finding(Verdict.UNDECIDED, f"{level} is the strongest level: none takes {_SATURATED:.0%} of both")
    parts = {
        name: _minus(_draws(summary, ("own", level, "full")), _draws(summary, ("own", level, f"without_{name}")))
        for name in ("reset", "variance")
    }
    verdict = _all_of(list(parts.values()))
    said = ", ".join(f"{name} {text(value)}" for name, value in parts.items())
    return Finding(verdict, f"BF1 added at {level}: {said}", min(parts.values(), key=lambda value: value.value))


def not_monotone(store: ResultStore) -> Finding:
    """Somewhere near saturation a step to more compression raises BF1, significantly after Holm's correction."""
    summary = summarise(store)
    steps = _steps(summary)
    draws = {step: _step_draws(summary, step) for step in steps}
    p = dict(zip(draws, holm([p_value(values) for _, values in draws.values()]), strict=True))
    rises = {step: point for step, (point, _) in draws.items() if point > 0}
    sure = [step for step in rises if p[step] < SIGNIFICANT and not interval(*draws[step]).holds_zero]
    if not draws:
        return Finding(Verdict.UNDECIDED, "the grid has no neighbouring levels near saturation")
    steepest = max(draws, key=lambda step: draws[step][0])
    value = interval(*draws[steepest])
    verdict = Verdict.HOLDS if sure else (Verdict.UNDECIDED if rises else Verdict.DOES_NOT)
    said = f"{len(rises)} of {len(draws)} steps raise BF1, {len(sure)} significantly"
    return Finding(verdict, f"{said}; largest: {steepest[0]} to {steepest[1]} {text(value)}", value)


def _steps(summary: Summary) -> list[tuple[str, str]]:
    """Neighbouring levels of the grid, from less to more compression, the latter near saturation in its family."""
    levels = sorted(
        (Level.parse(row.level) for row in summary.of_mode("own")), key=lambda each: (each.heads, each.neurons)
    )
    heads, neurons = ({getattr(level, name) for level in levels} for name in ("heads", "neurons"))
    along_heads = [(Level(a, m), Level(b, m)) for m in neurons for a, b in pairwise(sorted(heads)) if b >= _SATURATED]
    along_mlp = [(Level(h, a), Level(h, b)) for h in heads for a, b in pairwise(sorted(neurons)) if b >= _SATURATED]
    known = set(map(str, levels))
    found = [(str(a), str(b)) for a, b in (*along_heads, *along_mlp) if str(a) in known and str(b) in known]
    removed = {row.level: row.cost["params_removed"] for row in summary.of_mode("own")}
    return [(a, b) for a, b in sorted(found) if removed[b] > removed[a]]


def _step_draws(summary: Summary, step: tuple[str, str]) -> tuple[float, Array]:
    before, after = (_draws(summary, ("own", level, summary.subject)) for level in step)
    return after[0] - before[0], after[1] - before[1]


_DEEPEST = 2


def deepest_most_sensitive(store: ResultStore) -> Finding:
    """Cutting one of the two deepest blocks costs more BF1 than cutting another one as far."""
    summary = summarise(store)
    names = sorted(lost(summary))
    drawn = {name: _draws(summary, ("blocks", _block_level(summary), name)) for name in names}
    deepest, others = names[-_DEEPEST:], names[:-_DEEPEST]
    # less BF1 left after cutting a deep block means that it is the more sensitive
    value = _minus(_mean([drawn[name] for name in others]), _mean([drawn[name] for name in deepest]))
    ranked = sorted(names, key=lambda name: drawn[name][0])
    worst = ", ".join(str(int(name.removeprefix("block_"))) for name in ranked[:3])
    return Finding(
        judged(value),
        f"BF1 that the last {_DEEPEST} blocks lose, minus what the others lose on average: {text(value)}; most "
        f"sensitive: {worst} of {len(names)}",
        value,
    )


def _block_level(summary: Summary) -> str:
    return next(row.level for row in summary.of_mode("blocks"))


def recovered_holds(store: ResultStore) -> Finding:
    """Compressed and recovered models are not below the unpruned model, itself as it is and after the same recovery.

    A level that was recovered both corrected and as it was cut counts corrected, which is what is recommended.
    """
    summary = summarise(store)
    one_time, corrected, sequential = map(summary.of_mode, ("one_time", "corrected_recovered", "sequential"))
    known = {(row.level, row.method) for row in corrected}
    rows = [*corrected, *(row for row in one_time if (row.level, row.method) not in known), *sequential]
    after: Place = ("any", NO_LEVEL, UNPRUNED_RECOVERED)
    places = [(row.mode, row.level, row.method) for row in rows]
    worst = _worst(summary, places, ("any", NO_LEVEL, UNPRUNED))
    if worst is None:
        return Finding(Verdict.UNDECIDED, "no recovered level is finished")
    lowest = _worst(summary, places, after)
    verdict = Verdict.HOLDS if worst.low >= 0 else Verdict.UNDECIDED if worst.high >= 0 else Verdict.DOES_NOT
    of_them = f", {len(known)} of them corrected first" if known else ""
    said = f"BF1 minus the unpruned model's, over {len(places)} levels{of_them}: worst {text(worst)}"
    if lowest is not None:
        said += f"; minus the unpruned model's after the same recovery: worst {text(lowest)}"
    return Finding(verdict, said, worst)


def _worst(summary: Summary, places: Sequence[Place], other: Place) -> Interval | None:
    found = [value for place in places if (value := summary.paired(place, other)) is not None]
    return min(found, key=lambda value: value.value, default=None)


def heads_have_more_leverage(store: ResultStore) -> Finding:
    """The median boundary leverage of head steps is above that of MLP steps."""
    found = store.analysis("leverage")
    if found is None:
        return Finding(Verdict.UNDECIDED, "the sweep has not finished")
    band = found["bands"][HEADLINE]
    ratio, wins = Interval(**band["blr"]), Interval(**band["win_rate"])
    value = Interval(ratio.value - 1, ratio.low - 1, ratio.high - 1)
    said = f"BLR {ratio.value:.2f} [{ratio.low:.2f}, {ratio.high:.2f}], above 1: heads; heads win in "
    said += f"{wins.value:.0%} [{wins.low:.0%}, {wins.high:.0%}] of the paired cells"
    return Finding(judged(value), said, value)


_GOOD_RANK = 0.9


def contours_move_as_predicted(store: ResultStore) -> Finding:
    """The first-order displacement ranks the measured one with a correlation above 0.9 in every step that was tried."""
    found = store.analysis("contours")
    if found is None:
        return Finding(Verdict.UNDECIDED, "contours have not been measured")
    ranks = [Interval(**row["spearman"]) for row in found["rows"]]
    worst = min(ranks, key=lambda rank: rank.value)
    value = Interval(*(bound - _GOOD_RANK for bound in (worst.value, worst.low, worst.high)))
    said = f"Spearman over {len(ranks)} steps: worst {worst.value:.3f} [{worst.low:.3f}, {worst.high:.3f}]"
    return Finding(judged(value), f"{said}; above {_GOOD_RANK} counts", value)
