"""`medcore-bench claims`: the paper's claims, each with what was measured about it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

from ..._support.errors import ResultsError
from ..._support.files import read_json_file, write_json_atomic
from ..._support.records import Number, Record
from ...commands.work.folders import parse_named
from ...evaluation.intervals import INDICATIVE_BELOW, Interval
from ..report.page import Page, Section, write_page
from ..report.tables import Grid
from ..runner.evaluate import versions
from ..runner.store import RUN_FILE, ResultStore
from .findings import (
    Finding,
    Verdict,
    boundary_matters_most,
    contours_move_as_predicted,
    deepest_most_sensitive,
    first_on_bf1,
    heads_have_more_leverage,
    margin_grows,
    not_monotone,
    parts_matter_at_extremes,
    recovered_holds,
)


@dataclass(frozen=True)
class Claim:
    """A claim of the paper, what the paper reports for it, and the command whose results decide."""

    title: str
    paper: str
    experiment: str
    measure: Callable[[ResultStore], Finding]


CLAIMS: Sequence[Claim] = (
    Claim("MedCore is first on BF1", "Table 5: first at all four levels", "baselines", first_on_bf1),
    Claim(
        "Its margin grows with compression",
        "Table 5: over the mean of the three Fisher baselines +0.016 at h40_m30, +0.051 at h84_m95",
        "baselines",
        margin_grows,
    ),
    Claim("Heads have more boundary leverage than MLPs", "Table 4: BLR 2.89", "leverage", heads_have_more_leverage),
    Claim(
        "The contour moves as its first-order displacement says", "Theorem 3.3", "leverage", contours_move_as_predicted
    ),
    Claim(
        "The boundary Fisher matters most",
        "Table 3: without it -0.013, -0.035, -0.005, -0.127",
        "ablation",
        boundary_matters_most,
    ),
    Claim(
        "Reset and variance matter at extreme levels",
        "Table 3, h70_m95: without reset -0.082, without variance -0.080",
        "ablation",
        parts_matter_at_extremes,
    ),
    Claim("BF1 is not monotone near saturation", "Section 5.3, Figure 3", "landscape", not_monotone),
    Claim(
        "The deepest blocks are the most sensitive",
        "Section 3.5: they are protected",
        "landscape",
        deepest_most_sensitive,
    ),
    Claim(
        "Compressed and recovered models hold the contour",
        "Table 1: BF1 0.626 to 0.651 against the unpruned 0.532",
        "main",
        recovered_holds,
    ),
)


def findings(stores: Mapping[str, ResultStore]) -> dict[str, Finding | None]:
    """Decide every claim, by its title; None where its experiment has no results among `stores`."""
    return {
        claim.title: told(claim.measure(stores[claim.experiment]), _few(stores[claim.experiment]))
        if claim.experiment in stores
        else None
        for claim in CLAIMS
    }


def told(finding: Finding, few: Sequence[str]) -> Finding:
    """A finding as it may be told: a bootstrap over too few groups, in the sets that are named, decides nothing."""
    if not few:
        return finding
    have = "has" if len(few) == 1 else "have"
    said = f"{finding.measured}; {', '.join(few)} {have} fewer than {INDICATIVE_BELOW} groups"
    return replace(finding, verdict=Verdict.TOO_FEW, measured=said)


def _few(store: ResultStore) -> list[str]:
    """Data sets of a run that have too few groups."""
    return [name for name, about in store.run.get("data", {}).items() if about["groups"] < INDICATIVE_BELOW]


@dataclass(frozen=True)
class _StoredFinding(Record):
    verdict: str
    measured: str
    value: tuple[Number, Number, Number] | None = None

    @classmethod
    def of_finding(cls, finding: Finding) -> "_StoredFinding":
        value = finding.value
        span = None if value is None else (value.value, value.low, value.high)
        return cls(str(finding.verdict), finding.measured, span)

    def finding(self) -> Finding:
        return Finding(Verdict(self.verdict), self.measured, None if self.value is None else Interval(*self.value))


@dataclass(frozen=True)
class _StoredResults(Record):
    notice: str
    claims: Mapping[str, Any]


class Found(NamedTuple):
    """What was found about the claims, by title, in one folder of results, and what has to be said of it.

    `earlier` are the titles of what was not measured now.
    """

    notice: str
    findings: Mapping[str, Finding | None]
    earlier: Sequence[str] = ()

    def values(self) -> dict[str, Any]:
        """Return plain values for a JSON file."""
        claims = {
            title: None if one is None else _StoredFinding.of_finding(one).values()
            for title, one in self.findings.items()
        }
        return _StoredResults(self.notice, claims).values()

    @classmethod
    def of(cls, values: Any, name: str) -> "Found":
        """Read what `values` gave; claims that there are no more are left out."""
        stored = _StoredResults.of(values, name)
        there = {
            claim.title: one and _StoredFinding.of(one, f"{name}, {claim.title}").finding()
            for claim in CLAIMS
            for one in [stored.claims.get(claim.title)]
        }
        return cls(stored.notice, there, [title for title, one in there.items() if one])

    def since(self, earlier: "Found") -> "Found":
        """These, and earlier ones where nothing was found since."""
        notices = [part for notice in (earlier.notice, self.notice) for part in notice.split("; ")]
        both = {title: one or earlier.findings[title] for title, one in self.findings.items()}
        carried = [title for title in earlier.earlier if not self.findings[title]]
        return Found("; ".join(dict.fromkeys(notices)), both, carried)


def earlier(place: Path) -> dict[str, Found]:
    """Read the `claims.json` of an earlier page: names of results to what was found in them."""
    try:
        return {name: Found.of(values, name) for name, values in read_json_file(place).items()}
    except (OSError, ValueError, AttributeError) as error:
        raise ResultsError(f"{place}: no claims.json of an earlier page ({error})") from error


_LEAD = (
    "What the paper claims, and what came out here. A claim holds or does not where the 95 % interval of the figure "
    "that decides lies on one side of 0, or of the bound that is named. It is undecided otherwise. Where a data set "
    f"has fewer than {INDICATIVE_BELOW} independent groups of images there is no verdict."
)


def stores_in(folder: Path) -> dict[str, ResultStore]:
    """Find the results of experiments in the folders of a folder, one of each."""
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


def run(results: tuple[str, ...], before: Path | None, out: Path) -> None:
    """Hold the paper's claims against the results of the experiments that have run, and those found before."""
    named = parse_named(results or ("here=medcore-results",), "--results")
    found = {} if before is None else earlier(before)
    for name, folder in named.items():
        stores = stores_in(folder)
        now = Found(_notice(stores), findings(stores))
        found[name] = now.since(found[name]) if name in found else now
    write_json_atomic(out / "claims.json", {name: each.values() for name, each in found.items()})
    tables = {name: measured(each, name) for name, each in found.items()}
    sections = [Section("Verdicts", grids=[verdicts({name: each.findings for name, each in found.items()})])]
    sections += [Section(f"Measured: {name}", [found[name].notice], [table]) for name, table in tables.items()]
    notices = dict.fromkeys(each.notice for each in found.values())
    run = {"notice": "; ".join(notices), "results": {name: str(folder) for name, folder in named.items()}}
    page = Page("The paper's claims", [_LEAD], sections, [*sections[0].grids, *tables.values()])
    write_page(out, page, run, versions())


def _notice(stores: Mapping[str, ResultStore]) -> str:
    return "; ".join(dict.fromkeys(str(store.run.get("notice", "")) for store in stores.values()))


def verdicts(found: Mapping[str, Mapping[str, Finding | None]]) -> Grid:
    """Each claim with its verdict in every folder of results."""
    rows = [[claim.title, claim.paper, *(_verdict(each[claim.title]) for each in found.values())] for claim in CLAIMS]
    return Grid("Does it show here?", ["claim", "the paper", *found], rows, left=2 + len(found))


def _verdict(finding: Finding | None) -> str:
    return "not run" if finding is None else str(finding.verdict)


def measured(found: Found, name: str) -> Grid:
    """What decided each claim in one folder of results."""
    rows = [
        [claim.title, claim.experiment, _verdict(one), one.measured if one else "–"]
        for claim in CLAIMS
        for one in [found.findings[claim.title]]
    ]
    for row in rows:
        row[2] += " (earlier)" if row[0] in found.earlier else ""
    notes = ["earlier: as an earlier page found it, from results that are not among these."] if found.earlier else []
    return Grid(f"Measured on {name}", ["claim", "experiment", "verdict", "measured"], rows, notes, left=4)
