"""`medcore-bench report`: tables, figures and one self-contained page, from stored files only."""

from importlib import import_module
from pathlib import Path

import click
import pandas as pd

from .._support.errors import ResultsError
from .._support.files import write_text_atomic
from .._support.registry import unknown_name
from ..commands.options import MethodName
from . import analysis_tables, frames, maps, plots, tables
from .cli import COMMANDS
from .experiment_page import Draw, drawn
from .grid import Grid
from .page import page
from .planning import EXPERIMENT
from .plot_style import THEMES
from .results import ResultStore
from .summarising import summarise
from .summary import HIGHER_IS_BETTER, Summary

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
        "comparison": frames.comparison_frame(summary),
        "by_dataset": frames.dataset_frame(summary),
        "differences": frames.difference_frame(summary),
    }


def _figures(store: ResultStore, summary: Summary) -> dict[str, Draw]:
    stability = store.analysis("stability")
    plans = maps.read_plans(store)
    return {
        "compression": lambda theme: plots.compression(summary, theme),
        "differences": lambda theme: plots.forest(summary, theme),
        "removed": lambda theme: maps.removed_map(plans, summary, theme),
        "stability": lambda theme: plots.stability(stability, summary, theme) if stability else None,
    }


def _details(store: ResultStore, summary: Summary) -> dict[str, list[Grid]]:
    """The tables beside the main ones, by section."""
    agreement, stability = store.analysis("agreement"), store.analysis("stability")
    order = summary.methods
    cost = analysis_tables.cost(store, order)
    return {
        "differences": [tables.differences(summary, mode) for mode in summary.modes if summary.differences],
        "by data set": [tables.by_dataset(summary, metric) for metric in HIGHER_IS_BETTER],
        "agreement": [analysis_tables.agreement(agreement, order)] if agreement else [],
        "stability": [analysis_tables.stability(stability, order)] if stability else [],
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
