"""Verdicts about the paper's claims follow from the results, and an interval that holds 0 decides nothing."""

from collections.abc import Sequence
from pathlib import Path

import pytest
from bench_store import add, build, of_experiment

from medcore_prune._support.errors import ResultsError
from medcore_prune.benchmarks.experiments import ablation, claims, findings, main
from medcore_prune.benchmarks.experiments.claims import CLAIMS, stores_in, verdicts
from medcore_prune.benchmarks.experiments.findings import Verdict, judged
from medcore_prune.benchmarks.experiments.leverage.sweep import HEADLINE
from medcore_prune.benchmarks.runner.store import ResultStore
from medcore_prune.evaluation import intervals
from medcore_prune.evaluation.intervals import Interval

MAIN_MODES = {"one_time": "one-time", "sequential": "sequential"}


def _ablation(root: Path, levels: Sequence[str] = ("h40_m30", "h70_m95"), **quality: float) -> ResultStore:
    store = of_experiment(root, "ablation", ablation.MODES, list(ablation.VARIANTS), "full")
    for level in levels:
        for variant in ablation.VARIANTS:
            add(store, "own", level, variant, quality=quality.get(variant, 0.6))
    return store


def _landscape(root: Path, at_70: float, at_84: float, deep: float = 0.5) -> ResultStore:
    modes = {"own": "own quotas", "blocks": "one block"}
    store = of_experiment(root, "landscape", modes, ["medcore"], "medcore")
    for level, quality, removed in (("h50_m50", 0.7, 0.4), ("h70_m50", at_70, 0.5), ("h84_m50", at_84, 0.6)):
        add(store, "own", level, "medcore", quality=quality, removed=removed)
    for block in range(5):
        add(store, "blocks", "h50_m50", f"block_{block:02d}", quality=deep if block >= 3 else 0.8)
    return store


@pytest.mark.parametrize(
    ("low", "high", "verdict"),
    [(0.1, 0.3, Verdict.HOLDS), (-0.3, -0.1, Verdict.DOES_NOT), (-0.1, 0.3, Verdict.UNDECIDED)],
)
def test_an_interval_around_zero_decides_nothing(low: float, high: float, verdict: Verdict) -> None:
    assert judged(Interval((low + high) / 2, low, high)) is verdict


def test_too_few_groups_decide_nothing(tmp_path: Path) -> None:
    """Whatever the interval says: the results made up here have three groups a set."""
    store = _landscape(tmp_path, 0.9, 0.6)
    alone = findings.not_monotone(store)
    assert alone.verdict is Verdict.HOLDS
    told = claims.findings({"landscape": store})[next(c.title for c in CLAIMS if c.measure is findings.not_monotone)]
    assert told is not None
    assert told.verdict is Verdict.TOO_FEW
    assert told.measured.startswith(alone.measured)
    assert told.measured.endswith("have fewer than 10 groups")
    assert claims.told(alone, []) == alone


@pytest.fixture
def _few_groups_are_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    """The made-up results have three groups a set, of which no verdict would be given."""
    monkeypatch.setattr(intervals, "INDICATIVE_BELOW", 3)


@pytest.mark.usefixtures("_few_groups_are_enough")
def test_first_on_bf1_takes_every_level_and_significance(tmp_path: Path) -> None:
    store = build(tmp_path)
    for level in ("h40_m30", "h84_m95"):
        add(store, "own", level, "medcore", quality=0.95)
    found = findings.first_on_bf1(store)
    assert found.verdict is Verdict.HOLDS
    assert "h40_m30 1 of 3, h84_m95 1 of 3" in found.measured
    # a tie: first still, but no longer better than everybody
    add(store, "own", "h84_m95", "zero_fisher", quality=0.95)
    assert findings.first_on_bf1(store).verdict is Verdict.UNDECIDED


@pytest.mark.usefixtures("_few_groups_are_enough")
def test_not_first_anywhere_refutes_being_first(tmp_path: Path) -> None:
    store = build(tmp_path)
    add(store, "own", "h84_m95", "medcore", quality=0.2)
    assert findings.first_on_bf1(store).verdict is Verdict.DOES_NOT


@pytest.mark.parametrize(
    ("last", "verdict"), [(0.95, Verdict.HOLDS), (0.5, Verdict.DOES_NOT)], ids=["grows", "shrinks"]
)
def test_the_margin_is_over_the_fisher_baselines(tmp_path: Path, last: float, verdict: Verdict) -> None:
    store = build(tmp_path)
    add(store, "own", "h84_m95", "medcore", quality=last)
    found = findings.margin_grows(store)
    assert found.verdict is verdict
    assert found.value is not None
    # zero_fisher at 0.6 is the only rival here, MedCore leads by 0.1 at the first level
    assert found.value.value == pytest.approx((last - 0.6) - 0.1, abs=0.03)


def test_the_boundary_fisher_matters_most_where_leaving_it_out_costs_most(tmp_path: Path) -> None:
    most = _ablation(tmp_path / "most", full=0.8, without_boundary_fisher=0.5, without_reset=0.7, without_variance=0.7)
    least = _ablation(tmp_path / "least", full=0.8, without_boundary_fisher=0.8, without_reset=0.6)
    assert findings.boundary_matters_most(most).verdict is Verdict.HOLDS
    assert findings.boundary_matters_most(least).verdict is Verdict.DOES_NOT


def test_both_parts_have_to_help_at_the_strongest_level(tmp_path: Path) -> None:
    both = _ablation(tmp_path / "both", full=0.8, without_reset=0.6, without_variance=0.7)
    one = _ablation(tmp_path / "one", full=0.7, without_reset=0.8, without_variance=0.6)
    assert findings.parts_matter_at_extremes(both).verdict is Verdict.HOLDS
    assert findings.parts_matter_at_extremes(one).verdict is Verdict.DOES_NOT


def test_a_mild_level_says_nothing_of_extreme_ones(tmp_path: Path) -> None:
    found = findings.parts_matter_at_extremes(_ablation(tmp_path, ("h10_m10", "h50_m70"), full=0.8))
    assert (found.verdict, found.value) == (Verdict.UNDECIDED, None)
    assert found.measured == "h50_m70 is the strongest level: none takes 70% of both"


def test_a_rise_near_saturation_is_found(tmp_path: Path) -> None:
    rises = findings.not_monotone(_landscape(tmp_path / "rises", at_70=0.5, at_84=0.7))
    falls = findings.not_monotone(_landscape(tmp_path / "falls", at_70=0.6, at_84=0.4))
    assert rises.verdict is Verdict.HOLDS
    assert "h70_m50 to h84_m50" in rises.measured
    assert falls.verdict is Verdict.DOES_NOT


def test_blocks_are_compared_by_what_cutting_them_costs(tmp_path: Path) -> None:
    deep = findings.deepest_most_sensitive(_landscape(tmp_path / "deep", 0.5, 0.5, deep=0.4))
    shallow = findings.deepest_most_sensitive(_landscape(tmp_path / "shallow", 0.5, 0.5, deep=0.9))
    assert deep.verdict is Verdict.HOLDS
    assert deep.value is not None
    assert deep.value.value == pytest.approx(0.4, abs=0.03)
    assert shallow.verdict is Verdict.DOES_NOT


@pytest.mark.parametrize(("quality", "verdict"), [(0.95, Verdict.HOLDS), (0.5, Verdict.DOES_NOT)])
def test_the_worst_recovered_level_decides(tmp_path: Path, quality: float, verdict: Verdict) -> None:
    store = of_experiment(tmp_path, "main", MAIN_MODES, ["medcore"], "medcore")
    add(store, "any", "none", main.UNPRUNED_RECOVERED, quality=0.92)
    add(store, "one_time", "h40_m30", "medcore", quality=0.99)
    add(store, "sequential", "h84_m95", "medcore", quality=quality)
    found = findings.recovered_holds(store)
    assert found.verdict is verdict
    assert "after the same recovery" in found.measured


def test_a_level_that_was_corrected_before_its_recovery_counts_so(tmp_path: Path) -> None:
    modes = {**MAIN_MODES, "corrected_recovered": "corrected, recovered"}
    store = of_experiment(tmp_path, "main", modes, ["medcore"], "medcore")
    add(store, "any", "none", main.UNPRUNED_RECOVERED, quality=0.92)
    add(store, "one_time", "h40_m30", "medcore", quality=0.5)
    add(store, "corrected_recovered", "h40_m30", "medcore", quality=0.97)
    found = findings.recovered_holds(store)
    assert found.verdict is Verdict.HOLDS
    assert "over 1 levels, 1 of them corrected first" in found.measured
    # one that was not corrected counts as it is
    add(store, "one_time", "h50_m70", "medcore", quality=0.5)
    assert findings.recovered_holds(store).verdict is Verdict.DOES_NOT


def test_results_are_found_by_experiment_and_only_once(tmp_path: Path) -> None:
    _ablation(tmp_path / "one")
    _landscape(tmp_path / "two", 0.5, 0.4)
    stores = stores_in(tmp_path)
    assert set(stores) == {"ablation", "landscape"}
    found = {"here": claims.findings(stores)}
    table = verdicts(found)
    assert [row[0] for row in table.rows] == [claim.title for claim in CLAIMS]
    assert [row[-1] for row in table.rows].count("not run") == sum(claim.experiment not in stores for claim in CLAIMS)
    _ablation(tmp_path / "three")
    with pytest.raises(ResultsError, match="two results of ablation"):
        stores_in(tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(ResultsError, match="holds no results"):
        stores_in(tmp_path / "empty")


def test_what_an_earlier_page_found_stands_where_nothing_is_newer(tmp_path: Path) -> None:
    _ablation(tmp_path / "first" / "ablation")
    _landscape(tmp_path / "first" / "landscape", 0.9, 0.6)
    claims.run((f"here={tmp_path / 'first'}",), None, tmp_path / "page")
    before = claims.earlier(tmp_path / "page" / "claims.json")["here"]
    # the landscape again, with another answer
    _landscape(tmp_path / "second" / "landscape", 0.5, 0.4)
    second = (f"here={tmp_path / 'second'}", f"there={tmp_path / 'second'}")
    claims.run(second, tmp_path / "page" / "claims.json", tmp_path / "both")
    both = claims.earlier(tmp_path / "both" / "claims.json")
    now = claims.findings(stores_in(tmp_path / "second"))
    for claim in CLAIMS:
        found = before.findings[claim.title] if claim.experiment == "ablation" else now[claim.title]
        assert both["here"].findings[claim.title] == found
        assert both["there"].findings[claim.title] == now[claim.title]
    text = (tmp_path / "both" / "report.md").read_text()
    of_ablation = sum(claim.experiment == "ablation" for claim in CLAIMS)
    assert text.count(" (earlier)") == of_ablation
    assert "as an earlier page found it" in text
    assert "(earlier)" not in (tmp_path / "page" / "report.md").read_text()


@pytest.mark.parametrize(
    "text", ["{", "[]", '{"here": {"claims": {}}}', '{"here": {"notice": "", "claims": {"x": 1}}}']
)
def test_what_is_no_earlier_page_is_refused_by_name(tmp_path: Path, text: str) -> None:
    place = tmp_path / "claims.json"
    place.write_text(text.replace('"x"', f'"{CLAIMS[0].title}"'))
    with pytest.raises(ResultsError, match="of an earlier page"):
        claims.earlier(place)


@pytest.mark.parametrize(("worst", "verdict"), [(0.95, Verdict.HOLDS), (0.5, Verdict.DOES_NOT)])
def test_the_worst_step_decides_about_displacements(tmp_path: Path, worst: float, verdict: Verdict) -> None:
    store = of_experiment(tmp_path, "leverage", {}, ["medcore"], "medcore")
    assert findings.contours_move_as_predicted(store).verdict is Verdict.UNDECIDED
    rows = [{"spearman": {"value": rho, "low": rho - 0.02, "high": rho + 0.02}} for rho in (0.99, worst)]
    store.write_analysis("contours", {"rows": rows})
    assert findings.contours_move_as_predicted(store).verdict is verdict


@pytest.mark.parametrize(("ratio", "verdict"), [(2.9, Verdict.HOLDS), (0.6, Verdict.DOES_NOT)])
def test_heads_need_a_ratio_above_one(tmp_path: Path, ratio: float, verdict: Verdict) -> None:
    store = of_experiment(tmp_path, "leverage", {}, ["medcore"], "medcore")
    blr = {"value": ratio, "low": ratio - 0.2, "high": ratio + 0.2}
    wins = {"value": 0.8, "low": 0.7, "high": 0.9}
    store.write_analysis("leverage", {"bands": {HEADLINE: {"blr": blr, "win_rate": wins}}})
    assert findings.heads_have_more_leverage(store).verdict is verdict
