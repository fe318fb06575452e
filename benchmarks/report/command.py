"""`medcore-bench report`: the page of stored results once more, from their files alone."""

from pathlib import Path

from ..._support.errors import MedcorePruneError, ResultsError, UnknownNameError
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
    try:
        _render(ResultStore.open(folder), compare, gallery)
    except MedcorePruneError:
        raise
    except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError) as error:
        reason = " ".join(str(error).split())[:80]
        raise ResultsError(
            f"{folder} holds results that no run of this version wrote ({type(error).__name__}: {reason}): run the "
            "experiment again, in another folder"
        ) from error


def _render(store: ResultStore, compare: str | None, gallery: bool) -> None:
    experiment = str(store.run.get("identity", {}).get("experiment", EXPERIMENT))
    if experiment not in experiments:
        raise ResultsError(f"{store.root} holds results of {experiment[:80]!r}, which this version does not know")
    if experiment != EXPERIMENT:
        write_results(store, experiments.get(experiment).page(store))
        return
    if compare is not None and compare not in store.run.get("methods", {}):
        raise UnknownNameError(unknown_name("method of these results", compare, sorted(store.run.get("methods", {}))))
    write_results(store, comparison.page(store, gallery=gallery, subject=compare))
