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
    """The method with the best Boundary F1 of a level.

    Attributes:
        row: Its row.
        lost: Its Boundary F1 minus the unpruned model's, paired.
        verdict: What the interval of that says, see `intervals.verdict`.
        alike: How many of the level's other methods cannot be told from it; None where groups are too few to tell.
        others: How many there are.
    """

    row: Row
    lost: Interval
    verdict: str
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


def choices(summary: Summary) -> list[Choice]:
    """The best method of each level, mildest level first; none without a row of the unpruned model."""
    mode, found = mode_of(summary), []
    for level in summary.levels:
        rows = summary.of(mode, level)
        if not rows or _WHOLE not in summary.drawn:
            continue
        best = max(rows, key=lambda row: row.metrics[_METRIC].value)
        lost = summary.paired(best.place, _WHOLE)
        assert lost is not None
        others = [row for row in rows if row is not best]
        alike = None if summary.indicative else sum(summary.alike(best, other) for other in others)
        found.append(Choice(best, lost, summary.verdict(lost), alike, len(others)))
    return found


def recommended(found: Sequence[Choice]) -> Choice | None:
    """Of the levels whose best method keeps the contour, the one with the fewest parameters left."""
    return max((one for one in found if one.keeps), key=lambda one: one.row.cost["params_removed"], default=None)


def answer(summary: Summary) -> list[str]:
    """Say in a few sentences what to take, what it costs, and how far that can be trusted."""
    found = choices(summary)
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
        lines = [f"{advice} {_named(taken)}: {_cost(taken, unpruned)}", *_others(taken), *_subject(summary, taken)]
    elif all(one.below_floor for one in found):
        lines = [
            "Take none of them: at every level the best method has a worse contour than a shape drawn from the box "
            f"alone, which uses no network. The unpruned model has a Boundary F1 of {number(_METRIC, unpruned)}."
        ]
    else:
        nearest = max(found, key=lambda one: one.lost.value)
        lines = [
            f"No level keeps the contour within {KEPT_WITHIN} of Boundary F1. Nearest comes {_named(nearest)}: "
            f"{_cost(nearest, unpruned)}",
            *_others(nearest),
            *_subject(summary, nearest),
        ]
    return [" ".join(lines), _trust(summary)]


def _named(one: Choice) -> str:
    corrected = ", corrected," if one.row.mode == CORRECTED else ""
    return f"{one.row.method}{corrected} at {one.row.level}"


def _cost(one: Choice, unpruned: float) -> str:
    return (
        f"{percent(one.row.cost['params_removed'])} % of the encoder's parameters go, and Boundary F1 is "
        f"{number(_METRIC, one.row.metrics[_METRIC].value)} where the unpruned model has {number(_METRIC, unpruned)} "
        f"({estimate(_METRIC, one.lost, True)}, {one.verdict})."
    )


def _others(one: Choice) -> list[str]:
    if one.alike is None or not one.others:
        return []
    if not one.alike:
        return [f"It is ahead of all {one.others} other methods there."]
    return [f"{one.alike} of {one.others} other methods cannot be told from it there."]


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
    return f"Intervals are paired, for each difference by itself. {picked}"


def answer_grid(summary: Summary) -> Grid | None:
    """The best method of each level and what it costs, a row a level; None where there is none."""
    found = choices(summary)
    if not found:
        return None
    taken = recommended(found)
    rows = [
        [
            one.row.level,
            one.row.method,
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
        f"The best of each level by Boundary F1, {summary.modes[mode_of(summary)]}",
        [
            *("level", "method", "params -%", "FLOPs -%", names["bf1"], "minus unpruned", "that is"),
            *(names["hd95_px"], "alike"),
        ],
        rows,
        [
            "Minus unpruned: with its paired 95 % interval. Alike: other methods of the level whose difference from it "
            "holds 0, each for itself. ▼ worse than a floor: the filled box, or the ellipse in it.",
        ],
        left=2,
        methods=[one.row.method for one in found],
        best={(place, 1) for place, one in enumerate(found) if one is taken},
    )


def shown_methods(summary: Summary, count: int = 3) -> list[str]:
    """The methods that a plot shows strongly: the best few over all levels, and the compared one."""
    mode, means = mode_of(summary), {}
    for method in summary.methods:
        values = [row.metrics[_METRIC].value for row in summary.of_mode(mode) if row.method == method]
        if len(values) == len(summary.levels):
            means[method] = sum(values) / len(values)
    best = sorted(means, key=lambda name: -means[name])[:count]
    return best if summary.subject in best or summary.subject not in means else [*best, summary.subject]
