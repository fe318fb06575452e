"""What a score gives, told from what a budget gives: the same scores under their own and a searched budget."""

from ..runner.settings import CORRECTED, SEARCHED
from .summary import Row, Summary
from .tables import Grid, estimate, in_blocks, number, percent

_METRIC = "bf1"


def budgets(summary: Summary) -> Grid | None:
    """Boundary F1 of every method under both budgets, both corrected; None where a budget was not searched."""
    if not {CORRECTED, SEARCHED} <= set(summary.modes):
        return None
    blocks = {level: _of_level(summary, level) for level in summary.levels}
    rows, sections = in_blocks(blocks.items())
    columns = ["level", "method", "params -%: own", "searched", "BF1: own", "searched", "searched − own", "that is"]
    notes = [
        summary.notice,
        "Own: the method's own share of every block; searched: the same order of units in every block, and how many "
        "go from each as a search found it, at the level's parameters. Both corrected alike. Searched − own: with its "
        "paired 95 % interval. Spread: between the best and the worst method, of those that have both.",
    ]
    return Grid("Score and budget", columns, rows, notes, sections, left=2)


def _of_level(summary: Summary, level: str) -> list[list[str]]:
    found = {row.method: row for row in summary.of(SEARCHED, level)}
    pairs = [(row, found[row.method]) for row in summary.of(CORRECTED, level) if row.method in found]
    rows = [_pair(summary, *pair) for pair in pairs]
    if len(pairs) > 1:
        means = [[row.metrics[_METRIC].value for row in side] for side in zip(*pairs, strict=True)]
        spread = [number(_METRIC, max(values) - min(values)) for values in means]
        rows.append(["spread", "", "", *spread, "", ""])
    return rows


def _pair(summary: Summary, own: Row, searched: Row) -> list[str]:
    difference = summary.paired(searched.place, own.place)
    assert difference is not None
    return [
        own.method,
        *(percent(row.cost["params_removed"]) for row in (own, searched)),
        *(number(_METRIC, row.metrics[_METRIC].value) for row in (own, searched)),
        estimate(_METRIC, difference, True),
        summary.verdict(difference),
    ]
