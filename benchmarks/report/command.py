"""`medcore-bench report`: the page of stored results once more, from their files alone."""

from pathlib import Path

from ..._support.errors import ResultsError
from ..._support.registry import load_plugin, unknown_name
from ..runner.experiment import experiments
from ..runner.jobs import EXPERIMENT
from ..runner.store import ResultStore
from . import comparison
from .page import write_results


def run(folder: Path, compare: str | None, gallery: bool, plugin: tuple[str, ...]) -> None:
    """Render the results in DIR again: tables, figures, report.html."""
    for each in plugin:
        load_plugin(each)
    store = ResultStore.open(folder)
    experiment = str(store.run.get("identity", {}).get("experiment", EXPERIMENT))
    if experiment not in experiments:
        raise ResultsError(f"{folder} holds results of {experiment!r}, which this version does not know")
    if experiment != EXPERIMENT:
        write_results(store, experiments.get(experiment).page(store))
        return
    if compare is not None and compare not in store.run.get("methods", {}):
        raise ResultsError(unknown_name("method of these results", compare, sorted(store.run.get("methods", {}))))
    write_results(store, comparison.page(store, gallery=gallery, subject=compare))
