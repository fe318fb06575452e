"""`medcore-bench report`: tables, figures and one self-contained page, from stored files only."""

from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, TypeVar

import click
import pandas as pd

from ..._support.errors import ResultsError
from ..._support.files import write_text_atomic
from ..._support.registry import unknown_name
from ...commands.options import MethodName
from ...models.groups import FAMILY_NAMES
from ..cli import COMMANDS
from ..runner.jobs import EXPERIMENT
from ..runner.store import NO_LEVEL, ResultStore
from . import tables
from .page import Draw, drawn, page
from .plots import comparison as plots
from .plots.style import THEMES
from .summary import HIGHER_IS_BETTER, METRICS, Summary, summarise
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
        [
            name,
            _reads(known.get(name, {})),
            f"{seconds:.2f}",
            f"{peak / 1e6:.0f}",
        ]
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


@click.command(name="report")
@click.argument("folder", type=click.Path(file_okay=False, path_type=Path), metavar="DIR")
@click.option(
    "--compare",
    type=MethodName(),
    metavar="METHOD",
    help="The method that each other one is compared with.  [default: as in the run]",
)
@click.option("--gallery/--no-gallery", default=True, show_default=True, help="Show pictures of the images.")
def command(folder: Path, compare: str | None, gallery: bool) -> None:
    """Render the results in DIR again: tables, figures, report.html.

    Nothing is computed anew.

    \b
    Example:
      medcore-bench report medcore-results/baselines
    """
    store = ResultStore.open(folder)
    experiment = str(store.run.get("identity", {}).get("experiment", EXPERIMENT))
    if experiment not in COMMANDS:
        raise ResultsError(f"{folder} holds results of {experiment!r}, which this version does not know")
    if experiment != EXPERIMENT:
        import_module(COMMANDS[experiment].module).render(store)
        return
    if compare is not None and compare not in store.run.get("methods", {}):
        raise ResultsError(unknown_name("method of these results", compare, sorted(store.run.get("methods", {}))))
    render(store, gallery=gallery, subject=compare)


def render(store: ResultStore, *, gallery: bool = True, subject: str | None = None) -> Path:
    """Write `report.html`, `report.md`, `*.csv` and `figures/` into the results folder, and print the tables.

    Args:
        store: The results.
        gallery: Whether the page shows pictures of the images, where the run kept some.
        subject: The method that is compared with each other one; by default the run's own.

    Returns:
        The page.

    Raises:
        ResultsError: A stored file is damaged, or there is no finished row yet.
    """
    summary = summarise(store, subject)
    if not summary.rows:
        raise ResultsError(f"{store.root} holds no finished row yet: run the comparison again to go on")
    for name, frame in _frames(summary).items():
        write_text_atomic(store.root / f"{name}.csv", frame.to_csv(index=False, lineterminator="\n"))
    details = _details(store, summary)
    figures = _figures(store, summary)
    pictures = {
        name: {theme: text for theme in THEMES if (text := drawn(draw, theme, summary.notice)) is not None}
        for name, draw in figures.items()
    }
    pictures = {name: themes for name, themes in pictures.items() if themes}
    for name, themes in pictures.items():
        write_text_atomic(store.root / "figures" / f"{name}.svg", themes["light"])
    write_text_atomic(store.root / "report.md", _markdown(store, summary, details, list(pictures)))
    path = store.root / "report.html"
    write_text_atomic(path, page(store, summary, details, pictures, gallery=gallery))
    _show(summary, path)
    return path


def _frames(summary: Summary) -> dict[str, pd.DataFrame]:
    return {
        "comparison": comparison_frame(summary),
        "by_dataset": dataset_frame(summary),
        "differences": difference_frame(summary),
    }


def _figures(store: ResultStore, summary: Summary) -> dict[str, Draw]:
    stability = store.analysis("stability")
    plans = plots.read_plans(store)
    return {
        "compression": lambda theme: plots.compression(summary, theme),
        "differences": lambda theme: plots.forest(summary, theme),
        "removed": lambda theme: plots.removed_map(plans, summary, theme),
        "stability": lambda theme: plots.stability(stability, summary, theme) if stability else None,
    }


def _details(store: ResultStore, summary: Summary) -> dict[str, list[Grid]]:
    """The tables beside the main ones, by section."""
    agreement, stability = store.analysis("agreement"), store.analysis("stability")
    order = summary.methods
    cost = cost_grid(store, order)
    return {
        "differences": [tables.differences(summary, mode) for mode in summary.modes if summary.differences],
        "by data set": [tables.by_dataset(summary, metric) for metric in HIGHER_IS_BETTER],
        "agreement": [agreement_grid(agreement, order)] if agreement else [],
        "stability": [stability_grid(stability, order)] if stability else [],
        "cost": [cost] if cost else [],
    }


_CAPTIONS = {
    "compression": "BF1 and HD95 against compression",
    "differences": "Differences from each method, own quotas",
    "removed": "What each method removed: blocks across, heads down, share of neurons as bars below",
    "stability": "Stability of rankings",
}


def _markdown(store: ResultStore, summary: Summary, details: dict[str, list[Grid]], drawn: list[str]) -> str:
    run = store.run
    parts = [f"# Comparison of pruning methods\n\n**{summary.notice}**\n" if summary.notice else "# Comparison\n"]
    parts.append(f"Adapted model: {run.get('adapted')}; reference: {run.get('reference') or 'none'}.\n")
    parts += [tables.comparison(summary, mode).markdown() for mode in summary.modes]
    parts.append(tables.ranks(summary).markdown())
    parts += [f"![{_CAPTIONS[name]}](figures/{name}.svg)\n\n{_CAPTIONS[name]}\n" for name in drawn]
    parts += [grid.markdown() for grids in details.values() for grid in grids]
    return "\n".join(parts)


def _show(summary: Summary, path: Path) -> None:
    for mode in summary.modes:
        tables.comparison(summary, mode, intervals=_TERMINAL_INTERVALS).show()
    if summary.ranks:
        tables.ranks(summary).show()
    click.echo(f"report: {path}  (tables: {path.with_suffix('.md')}, {path.parent / 'comparison.csv'})")
