"""`medcore-bench claims`: each claim of the paper, what was measured here, and whether it holds."""

from collections.abc import Mapping
from pathlib import Path

import click

from .._support.errors import ResultsError
from .._support.files import write_json_atomic
from ..data.folders.folder import parse_named
from .evaluating import versions
from .experiment_page import Section, write_report
from .findings import CLAIMS, Finding, findings, plain
from .grid import Grid
from .options import results_option
from .results import RUN_FILE, ResultStore

_LEAD = (
    "What the paper claims, and what came out here. A claim holds or does not where the 95 % interval of the figure "
    "that decides lies on one side of 0, or of the bound that is named, and is undecided otherwise."
)


def stores_in(folder: Path) -> dict[str, ResultStore]:
    """Find the results of experiments in the folders of a folder.

    Raises:
        ResultsError: There are none, or two of one experiment.
    """
    found: dict[str, ResultStore] = {}
    for place in sorted(folder.glob(f"*/{RUN_FILE}")):
        store = ResultStore.open(place.parent)
        name = str(store.run.get("identity", {}).get("experiment", ""))
        if name in found:
            raise ResultsError(f"{folder} holds two results of {name}: {found[name].root} and {store.root}; move one")
        found[name] = store
    if not found:
        raise ResultsError(f"{folder} holds no results: expected folders that experiments wrote, each with {RUN_FILE}")
    return found


@click.command(name="claims")
@click.option(
    "--results",
    multiple=True,
    metavar="NAME=DIR",
    help="A folder that holds experiments' results, and a name for it; may be repeated.  [default: "
    "here=medcore-results]",
)
@results_option("--out", default=Path("medcore-results/claims"), says="Folder of the page and its tables.")
def command(results: tuple[str, ...], out: Path) -> None:
    """Hold the paper's claims against the results of the experiments that have run.

    \b
    Example:
      medcore-bench claims --results phantoms=medcore-results
    """
    named = parse_named(results or ("here=medcore-results",), "--results")
    stores = {name: stores_in(folder) for name, folder in named.items()}
    found = {name: findings(of_experiments) for name, of_experiments in stores.items()}
    notices = {name: _notice(of_experiments) for name, of_experiments in stores.items()}
    write_json_atomic(out / "claims.json", _record(found))
    sections = [Section("Verdicts", grids=[verdicts(found)])]
    sections += [
        Section(f"Measured: {name}", text=[notices[name]], grids=[measured(each, name)]) for name, each in found.items()
    ]
    run = {"notice": "; ".join(dict.fromkeys(notices.values())), "results": {n: str(f) for n, f in named.items()}}
    write_report(out, run, versions(), "The paper's claims", [_LEAD], sections, show=1 + len(found))


def _notice(stores: Mapping[str, ResultStore]) -> str:
    return "; ".join(dict.fromkeys(str(store.run.get("notice", "")) for store in stores.values()))


def _record(found: Mapping[str, Mapping[str, Finding | None]]) -> dict[str, object]:
    return {
        name: {title: None if one is None else plain(one) for title, one in each.items()}
        for name, each in found.items()
    }


def verdicts(found: Mapping[str, Mapping[str, Finding | None]]) -> Grid:
    """Each claim with its verdict in every folder of results."""
    rows = [[claim.title, claim.paper, *(_verdict(each[claim.title]) for each in found.values())] for claim in CLAIMS]
    return Grid("Does it show here?", ["claim", "the paper", *found], rows, left=2 + len(found))


def _verdict(finding: Finding | None) -> str:
    return "not run" if finding is None else str(finding.verdict)


def measured(found: Mapping[str, Finding | None], name: str) -> Grid:
    """What decided each claim in one folder of results."""
    rows = [
        [claim.title, claim.experiment, _verdict(one), one.measured if one else "–"]
        for claim in CLAIMS
        for one in [found[claim.title]]
    ]
    return Grid(f"Measured on {name}", ["claim", "experiment", "verdict", "measured"], rows, left=4)
