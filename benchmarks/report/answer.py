"""The answer that a comparison gives first: which method and level to take, and what that costs the contour."""

from collections.abc import Sequence
from dataclasses import dataclass

from ...evaluation.intervals import INDICATIVE_BELOW, Interval
from ...evaluation.metrics import TITLES
from ..runner.settings import CORRECTED, CORRECTED_FROM
from ..runner.store import NO_LEVEL, UNPRUNED
from .summary import Place, Row, Summary
from .tables import Grid, estimate, number, percent

KEPT_WITHIN = 0.01
"""Boundary F1 that a smaller model may lose and still be said to keep the contour, as of `compress --keep-contour`."""
_METRIC = "bf1"
_WHOLE: Place = ("any", NO_LEVEL, UNPRUNED)


@dataclass(frozen=True)
class Choice:
    """The method, or the way, with the best Boundary F1 of a level.

    Attributes:
        row: Its row.
        lost: Its Boundary F1 minus the unpruned model's, paired.
        verdict: What the interval of that says, see `intervals.verdict`.
        name: What it is, in words.
        alike: How many of the level's others cannot be told from it; None where groups are too few to tell.
        others: How many there are.
    """

    row: Row
    lost: Interval
    verdict: str
    name: str
    alike: int | None
    others: int

    @property
    def below_floor(self) -> bool:
        """Whether a shape drawn from the box alone has the better contour."""
        return _METRIC in self.row.below_floor

    @property
    def keeps(self) -> bool:
        """Whether the contour is kept within `KEPT_WITHIN` on average over these images."""
        return not self.below_floor and self.lost.value >= -KEPT_WITHIN


def mode_of(summary: Summary) -> str:
    """The mode that models are taken from: corrected ones where the run has them."""
    return CORRECTED if CORRECTED in summary.modes else CORRECTED_FROM


def choices(summary: Summary, ways: Sequence[str] = ()) -> list[Choice]:
    """The best of each level, mildest level first; none without a row of the unpruned model.

    Methods compete in one mode, or, where `ways` are given, these modes.
    """
    found = []
    for level in summary.levels:
        rows = [row for mode in ways or [mode_of(summary)] for row in summary.of(mode, level)]
        if not rows or _WHOLE not in summary.drawn:
            continue
        best = max(rows, key=lambda row: row.metrics[_METRIC].value)
        lost = summary.paired(best.place, _WHOLE)
        assert lost is not None
        others = [row for row in rows if row is not best]
        alike = None if summary.indicative else sum(summary.alike(best, other) for other in others)
        name = _named(best, summary.modes[best.mode] if ways else "")
        found.append(Choice(best, lost, summary.verdict(lost), name, alike, len(others)))
    return found


def recommended(found: Sequence[Choice]) -> Choice | None:
    """Of the levels whose best method keeps the contour, the one with the fewest parameters left."""
    return max((one for one in found if one.keeps), key=lambda one: one.row.cost["params_removed"], default=None)


def answer(summary: Summary, ways: Sequence[str] = (), trained: Place | None = None) -> list[str]:
    """Say in a few sentences what to take, what it costs, and how far that can be trusted.

    Args:
        summary: What is stored.
        ways: As for `choices`.
        trained: The unpruned model after the training that others had, which they are compared with too.
    """
    found = choices(summary, ways)
    kind = "ways" if ways else "methods"
    whole = summary.row(_WHOLE)
    if not found or whole is None:
        return ["No level is finished, or the unpruned model is not: there is nothing to say yet."]
    taken, unpruned = recommended(found), whole.metrics[_METRIC].value
    if _METRIC in whole.below_floor:
        lines = [
            f"The unpruned model itself has a worse contour (Boundary F1 {number(_METRIC, unpruned)}) than a shape "
            "drawn from the box alone: no pruning of it can be judged by its contour. Adapt it to these images first."
        ]
    elif taken is not None:
        # a few groups are no ground for advice, nor is an interval that reaches further down
        sure = not summary.indicative and taken.lost.low >= -KEPT_WITHIN
        advice = "Take" if sure else "The smallest that kept the contour on average, here, is"
        lines = [f"{advice} {taken.name}: {_cost(taken, unpruned)}", *_beside(summary, taken, trained, kind)]
    elif all(one.below_floor for one in found):
        lines = [
            f"Take none of them: at every level the best of all {kind} has a worse contour than a shape drawn from the "
            f"box alone, which uses no network. The unpruned model has a Boundary F1 of {number(_METRIC, unpruned)}."
        ]
    else:
        nearest = max(found, key=lambda one: one.lost.value)
        lines = [
            f"No level keeps the contour within {KEPT_WITHIN} of Boundary F1. Nearest comes {nearest.name}: "
            f"{_cost(nearest, unpruned)}",
            *_beside(summary, nearest, trained, kind),
        ]
    return [" ".join(lines), _trust(summary)]


def _named(row: Row, way: str) -> str:
    if way:
        return f"{row.method} at {row.level} ({way})"
    corrected = ", corrected," if row.mode == CORRECTED else ""
    return f"{row.method}{corrected} at {row.level}"


def _cost(one: Choice, unpruned: float) -> str:
    return (
        f"{percent(one.row.cost['params_removed'])} % of the encoder's parameters go, and Boundary F1 is "
        f"{number(_METRIC, one.row.metrics[_METRIC].value)} where the unpruned model has {number(_METRIC, unpruned)} "
        f"({estimate(_METRIC, one.lost, True)}, {one.verdict})."
    )


def _beside(summary: Summary, one: Choice, trained: Place | None, kind: str) -> list[str]:
    """How it stands to the unpruned model that was trained too, to the others of its level, to the compared method."""
    return [*_trained(summary, one, trained), *_others(one, kind), *_subject(summary, one)]


def _trained(summary: Summary, one: Choice, trained: Place | None) -> list[str]:
    row = summary.row(trained) if trained else None
    if row is None or trained is None:
        return []
    lost = summary.paired(one.row.place, trained)
    assert lost is not None
    return [
        f"The unpruned model after the same training has {number(_METRIC, row.metrics[_METRIC].value)} "
        f"({estimate(_METRIC, lost, True)}, {summary.verdict(lost)})."
    ]


def _others(one: Choice, kind: str) -> list[str]:
    if one.alike is None or not one.others:
        return []
    if not one.alike:
        return [f"It is ahead of all {one.others} other {kind} there, each pair by itself."]
    return [f"{one.alike} of {one.others} other {kind} cannot be told from it there, each pair by itself."]


def _subject(summary: Summary, one: Choice) -> list[str]:
    """Where the compared method stands at the same place, if it is another one."""
    subject = summary.subject
    rank = next(
        (r for r in summary.ranks if (r.mode, r.level, r.metric) == (one.row.mode, one.row.level, _METRIC)), None
    )
    if rank is None or one.row.method == subject:
        return []
    return [f"{subject} is number {rank.rank} of {rank.of} there."]


def _trust(summary: Summary) -> str:
    """How far the answer can be trusted."""
    picked = (
        "The best of a level is picked on the very images that it is reported on: fresh images will show it a little "
        "lower."
    )
    if few := summary.indicative:
        have = "has" if len(few) == 1 else "have"
        return (
            f"Indicative only: {', '.join(few)} {have} fewer than {INDICATIVE_BELOW} groups, and no verdict is given. "
            f"{picked}"
        )
    corrected = " (in the table of differences p is corrected for their number)" if summary.differences else ""
    return f"Intervals are paired, for each difference by itself{corrected}. {picked}"


def answer_grid(summary: Summary, ways: Sequence[str] = ()) -> Grid | None:
    """The best of each level and what it costs, a row a level; None where there is none. `ways` as for `choices`."""
    found = choices(summary, ways)
    if not found:
        return None
    taken = recommended(found)
    rows = [
        [
            one.row.level,
            summary.modes[one.row.mode] if ways else one.row.method,
            percent(one.row.cost["params_removed"]),
            percent(one.row.cost["flops_removed"]),
            ("▼ " if one.below_floor else "") + number(_METRIC, one.row.metrics[_METRIC].value),
            estimate(_METRIC, one.lost, True),
            one.verdict,
            number("hd95_px", one.row.metrics["hd95_px"].value),
            "–" if one.alike is None else f"{one.alike} of {one.others}",
        ]
        for one in found
    ]
    names = TITLES
    return Grid(
        "The best of each level by Boundary F1" + ("" if ways else f", {summary.modes[mode_of(summary)]}"),
        [
            *("level", "way" if ways else "method", "params -%", "FLOPs -%", names["bf1"], "minus unpruned", "that is"),
            *(names["hd95_px"], "alike"),
        ],
        rows,
        [
            "Minus unpruned: with its paired 95 % interval. Alike: others of the level whose difference from it "
            "holds 0. Both are of each pair by itself, not corrected for several comparisons. ▼ worse than a floor: "
            "the filled box, or the ellipse in it.",
        ],
        left=2,
        methods=[one.row.method for one in found],
        best={(place, 1) for place, one in enumerate(found) if one is taken},
    )


def best_over_levels(summary: Summary) -> list[str]:
    """Methods by their mean Boundary F1 over all levels, the best first; without those that miss a level."""
    mode, means = mode_of(summary), {}
    for method in summary.methods:
        values = [row.metrics[_METRIC].value for row in summary.of_mode(mode) if row.method == method]
        if len(values) == len(summary.levels):
            means[method] = sum(values) / len(values)
    return sorted(means, key=lambda name: -means[name])


def shown_methods(summary: Summary, count: int = 3) -> list[str]:
    """The methods that a plot shows strongly: the best few over all levels, and the compared one."""
    ordered = best_over_levels(summary)
    best = ordered[:count]
    return best if summary.subject in best or summary.subject not in ordered else [*best, summary.subject]
