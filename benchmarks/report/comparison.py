"""The comparison of pruning methods as a page: its tables, figures and CSV files."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeVar

import pandas as pd

from ..._support.errors import ResultsError
from ...evaluation.metrics import HIGHER_IS_BETTER
from ...models.groups import FAMILY_NAMES
from ..runner.store import NO_LEVEL, ResultStore
from . import tables
from .answer import answer, answer_grid, best_over_levels, mode_of
from .budgets import budgets
from .gallery import shown
from .hurt import ANALYSIS as HURT
from .page import Page, Picture, Section
from .plots import comparison as plots
from .plots.style import looks
from .summary import METRICS, Summary, summarise
from .tables import Grid, percent

T = TypeVar("T")

FAINT_REFERENCE = 1e-3
"""Ratio of the models' Fisher below which the reset term is said to hardly count: its root weighs 3 %."""
_FEW_UNITS = 10


def agreement_grid(found: Mapping[str, Any], order: Sequence[str]) -> Grid:
    """Rank correlation of each method's scores with the exact interventions."""
    known = next(iter(next(iter(found["methods"].values())).values()))
    interventions = [name for name in ("zero", "reset") if name in known]
    columns = [f"{family}: {name}" for family in FAMILY_NAMES for name in interventions]
    rows = [
        [method, *(_rho(of_method[family][name]) for family in FAMILY_NAMES for name in interventions)]
        for method, of_method in _ordered(found["methods"], order)
    ]
    units = " and ".join(f"{count} {family}" for family, count in found["units"].items())
    return Grid(
        "Rank correlation (Spearman) of scores with exact interventions",
        ["method", *columns],
        rows,
        [
            f"Exact: the change of the boundary-aware loss when a unit is set to zero, or back to the reference; "
            f"{units} drawn at random, {found['images']} calibration images of each data set.",
            *(["So few units say next to nothing."] if min(found["units"].values()) < _FEW_UNITS else []),
            *_reference(found.get("reference_fisher", {})),
        ],
    )


def _reference(ratios: Mapping[str, float]) -> list[str]:
    """How the reference's Fisher compares with the adapted model's, and what follows where it is next to nothing."""
    if not ratios:
        return []
    line = "Mean Fisher of the reference over the adapted model's: "
    line += ", ".join(f"{ratio:.2g} on {name}" for name, ratio in ratios.items())
    if min(ratios.values()) < FAINT_REFERENCE:
        return [f"{line}. Next to nothing: this reference hardly responds to the images, and resets hardly count."]
    return [f"{line}."]


def stability_grid(found: Mapping[str, Any], order: Sequence[str]) -> Grid:
    """Rank correlation of scores from fewer samples with those from all, and the share of removals that agree."""
    samples = found["samples"]
    rows = [
        [
            method,
            family,
            *(
                f"{_rho(rho)} / {percent(same)}"
                for rho, same in zip(of_method[family]["spearman"], of_method[family]["overlap"], strict=True)
            ),
        ]
        for method, of_method in _ordered(found["methods"], order)
        for family in FAMILY_NAMES
    ]
    return Grid(
        "Stability of rankings against the number of calibration samples",
        ["method", "family", *(f"n = {n}" for n in samples)],
        rows,
        [
            f"Spearman's correlation with the scores from all {samples[-1]} samples of each data set, mean over "
            f"blocks / percent of the units removed at {found['level']} that are the same (uniform quotas)."
        ],
        left=2,
    )


def cost_grid(store: ResultStore, order: Sequence[str]) -> Grid | None:
    """Seconds and peak memory of scoring, beside what the calibration shared by all of them took."""
    taken: dict[str, tuple[float, int]] = {}
    for result in store.cells():
        if result.cell.level != NO_LEVEL:
            seconds, peak = taken.get(result.cell.method, (0.0, 0))
            taken[result.cell.method] = max(seconds, result.seconds.get("scoring", 0.0)), max(peak, result.peak_bytes)
    if not taken:
        return None
    known = store.run.get("methods", {})
    rows = [
        [name, _reads(known.get(name, {})), f"{seconds:.2f}", f"{peak / 1e6:.0f}"]
        for name, (seconds, peak) in _ordered(taken, order)
    ]
    return Grid("Cost of scoring", ["method", "reads", "seconds", "peak MB"], rows, _calibration(store), left=2)


def _reads(about: Mapping[str, Any]) -> str:
    """What a method reads: statistics, or the images themselves, or nothing but weights."""
    return ", ".join(about.get("needs", [])) or ("images" if about.get("calibrated") else "–")


def _calibration(store: ResultStore) -> Sequence[str]:
    lines = ["One scoring of all units; peak MB: the most in tensors made meanwhile and alive at the same time."]
    found = store.analysis("calibration")
    if found:
        samples = ", ".join(f"{count} of {name}" for name, count in found["samples"].items())
        lines.append(
            f"Calibration, once for all methods, levels and modes: {found['seconds']:.1f} s, peak "
            f"{found['peak_bytes'] / 1e6:.0f} MB ({samples}; {found['draws']} drawn); what a cache held took no time."
        )
    return lines


def _ordered(found: Mapping[str, T], order: Sequence[str]) -> list[tuple[str, T]]:
    """Methods as the other tables order them; JSON files keep no order."""
    return sorted(found.items(), key=lambda item: order.index(item[0]) if item[0] in order else len(order))


def _rho(value: float | None) -> str:
    return "–" if value is None else f"{value:+.2f}"


def comparison_frame(summary: Summary) -> pd.DataFrame:
    """All rows with all metrics, as numbers: the CSV file."""
    records = []
    for row in summary.rows:
        record: dict[str, Any] = {"mode": row.mode, "level": row.level, "method": row.method, "seeds": row.seeds}
        for key in ("params", "params_removed", "flops", "flops_removed", "heads_removed", "neurons_removed"):
            record[key] = row.cost.get(key)
        for metric in METRICS:
            found = row.metrics[metric]
            record |= {metric: found.value, f"{metric}_low": found.low, f"{metric}_high": found.high}
            record[f"{metric}_below_floor"] = metric in row.below_floor
        record |= {f"empty_{kind}": count for kind, count in row.empty.items()}
        records.append(record)
    return pd.DataFrame(records).assign(notice=summary.notice)


def dataset_frame(summary: Summary) -> pd.DataFrame:
    """Means of each data set, a row a method, level and data set."""
    return pd.DataFrame(
        {"mode": row.mode, "level": row.level, "method": row.method, "dataset": name, **metrics}
        for row in summary.rows
        for name, metrics in row.by_dataset.items()
    ).assign(notice=summary.notice)


def difference_frame(summary: Summary) -> pd.DataFrame:
    """All differences as numbers."""
    columns = ["mode", "level", "method", "metric", "difference", "low", "high", "p", "p_holm", "verdict"]
    rows = [
        (d.mode, d.level, d.method, d.metric, d.value.value, d.value.low, d.value.high, d.p, d.p_holm, d.verdict)
        for d in summary.differences
    ]
    return pd.DataFrame(rows, columns=columns).assign(notice=summary.notice)


_TERMINAL_INTERVALS = ("bf1", "hd95_px")
_LEAD = (
    "Attention heads and MLP neurons of the image encoder removed without any recovery: all methods on the same "
    "groups, levels, images and seeds, judged by the contour. A level such as h50_m70 removes 50 % of the heads and "
    "70 % of the neurons."
)
_GALLERY = (
    "Images of each data set, from the best to the worst contour of the unpruned model; own quotas, not "
    "corrected, first seed. Contours are shown on the part around the box."
)


_HURT = (
    "The images of each set on which the best method of a level loses most contour, beside the unpruned model. "
    "Contours are shown on the part around the box."
)


def page(store: ResultStore, *, gallery: bool = True, subject: str | None = None) -> Page:
    """Lay the comparison out, with pictures of the images where the run kept some.

    `subject`, the method that is compared with each other one, is by default the run's own; where it has no results,
    the best method over all levels takes its place, and the page says so.
    """
    summary, instead = _summarised(store, subject)
    if not summary.rows:
        raise ResultsError(f"{store.root} holds no finished row yet: run the comparison again to go on")
    run = store.run
    models = f"Adapted model: {run.get('adapted')}; reference: {run.get('reference') or 'none'}."
    drawn = f", over {summary.calibration_draws} calibration draws" if summary.calibration_draws > 1 else ""
    levels = len(summary.levels)
    counted = f"{len(summary.methods)} methods × {levels} level{'s' if levels > 1 else ''}"
    ranks = [tables.ranks(summary)] if summary.ranks else []
    best = [grid] if (grid := answer_grid(summary)) else []
    both = [grid] if (grid := budgets(summary)) else []
    return Page(
        "Comparison of pruning methods",
        [_LEAD, models, *instead],
        list(_sections(store, summary, best, gallery)),
        [
            *(tables.comparison(summary, mode, intervals=_TERMINAL_INTERVALS) for mode in summary.modes),
            *ranks,
            *both,
            *best,
        ],
        {
            "comparison": comparison_frame(summary),
            "by_dataset": dataset_frame(summary),
            "differences": difference_frame(summary),
        },
        [(counted, f"in two quota modes, after two floors{drawn}")],
        summary.subject,
        {name: look.swatch for name, look in looks(summary.methods, summary.subject).items()},
    )


def _summarised(store: ResultStore, subject: str | None) -> tuple[Summary, list[str]]:
    """Work the tables out, and say which method stands in for a subject that did not take part."""
    summary = summarise(store, subject)
    if summary.ranks or not (best := best_over_levels(summary)):
        return summary, []
    said = (
        f"{summary.subject} did not take part. In its place {best[0]} is compared with each other method: it has the "
        "best Boundary F1 over all levels. It was picked on these very images, so that its lead looks a little larger "
        "than it is."
    )
    return summarise(store, best[0]), [said]


def _sections(store: ResultStore, summary: Summary, best: Sequence[Grid], gallery: bool) -> Iterator[Section]:
    order, modes = summary.methods, summary.modes
    beside = f", and {summary.subject}" if summary.subject in summary.methods else ""
    best_few = (
        f"{modes[mode_of(summary)].capitalize()}; macro averages. Strong: the best few over all levels{beside}; the "
        f"band is the 95 % interval of the best. Dashed: floors that use no network."
    )
    curves = Picture(best_few, lambda theme: plots.compression(summary, theme))
    yield Section("What to take", answer(summary), best, {"compression": curves})
    if gallery and (hurt := shown(store, summary, HURT)):
        yield Section("Where it hurts most", [_HURT], html=hurt)
    marks = (
        "Macro average over data sets; small: 95 % interval. Underlined: the best of its level and what cannot be told "
        "from it, each pair by itself and not corrected for several comparisons, corrected models apart; nothing where "
        "no difference shows, groups are too few, or all lie below a floor. ▼: worse than a floor."
    )
    yield Section("Table", [marks], [tables.comparison(summary, mode) for mode in modes], tabs=list(modes.values()))
    if both := budgets(summary):
        yield Section("Score and budget", grids=[both])
    each = Picture(
        "Boundary F1 of each method, a line for each way; faint: all others; dashed: floors.",
        lambda theme: plots.each_method(summary, theme),
    )
    by_set = [tables.by_dataset(summary, metric) for metric in HIGHER_IS_BETTER]
    yield Section("Method by method", figures={"methods": each})
    yield Section("By data set", grids=by_set, folded=True)
    yield from _standing(summary)
    yield Section("What each method removed", figures={"removed": _map(store, summary)})
    if gallery and (pictures := shown(store, summary)):
        yield Section("Gallery", [_GALLERY], html=pictures)
    yield from _trust(store, summary)
    cost = cost_grid(store, order)
    yield Section("Cost", grids=[cost] if cost else [])
    yield Section("Methods", grids=[methods_grid(store.run.get("methods", {}), order)])


def _standing(summary: Summary) -> Iterator[Section]:
    """Where the subject stands among the others, and its differences from them."""
    subject = summary.subject
    absent = [] if summary.ranks else [f"{subject} did not take part."]
    yield Section(f"Where {subject} stands", absent, [tables.ranks(summary)] if summary.ranks else [])
    if summary.differences:
        yield _differences(summary)


def _differences(summary: Summary) -> Section:
    subject = summary.subject
    caption = (
        f"{subject} minus each method, own quotas, with paired 95 % intervals. Filled and coloured: {subject} is "
        "better; filled and dark: worse; hollow: not significant, p being corrected by Holm over the methods of a "
        "level. HD95: negative is better."
    )
    drawn = Picture(caption, lambda theme: plots.forest(summary, theme))
    grids = [tables.differences(summary, mode) for mode in summary.modes]
    return Section("Differences", grids=grids, figures={"differences": drawn}, folded=True)


def _map(store: ResultStore, summary: Summary) -> Picture:
    plans = plots.read_plans(store)
    caption = (
        "Own quotas, first seed. A square is a head: blocks across from shallow to deep, heads down; filled squares "
        "went. Bars below: share of each block's neurons that went. The deepest blocks are protected."
    )
    return Picture(caption, lambda theme: plots.removed_map(plans, summary, theme))


def _trust(store: ResultStore, summary: Summary) -> Iterator[Section]:
    """How far the scores can be trusted."""
    agreement, steady = store.analysis("agreement"), store.analysis("stability")
    absent = [] if agreement or steady else ["No method that reads calibration statistics took part."]
    yield Section("Agreement", absent, [agreement_grid(agreement, summary.methods)] if agreement else [])
    if steady:
        caption = (
            "Rank correlation of the scores from the first n calibration samples with the scores from all of them, "
            "mean over blocks."
        )
        drawn = Picture(caption, lambda theme: plots.stability(steady, summary, theme))
        grids = [stability_grid(steady, summary.methods)]
        yield Section("Stability", grids=grids, figures={"stability": drawn}, folded=True)


def methods_grid(known: Mapping[str, Mapping[str, Any]], order: Sequence[str]) -> Grid:
    """What each method is, from what the run noted about it."""
    rows = []
    for name in order:
        about = known.get(name, {})
        tau = about.get("tau")
        quotas = about.get("quotas", "") + ("" if tau is None else f", tau {tau}")
        settings = ", ".join(f"{key} {value}".replace("'", "") for key, value in about.get("settings", {}).items())
        source = about.get("source", "") or about.get("origin", "")
        rows.append([name, about.get("description", "").replace("`", ""), source, quotas, settings])
    columns = ["method", "what", "source", "own quotas", "settings"]
    return Grid("Methods", columns, rows, left=len(columns), methods=order)
