"""A report of sections: one list gives the page, the Markdown and the pictures, and the page needs nothing else."""

import re
from pathlib import Path

import pandas as pd
import pytest
from bench_store import add, of_experiment
from matplotlib.figure import Figure

from medcore_prune.benchmarks.experiments import ablation, landscape, main, transfer
from medcore_prune.benchmarks.report.page import Page, Picture, Section, write_results
from medcore_prune.benchmarks.report.plots.recovery import validation_curves
from medcore_prune.benchmarks.report.plots.style import THEMES, Theme
from medcore_prune.benchmarks.report.tables import Grid
from medcore_prune.benchmarks.runner.store import ResultStore


def _store(root: Path) -> ResultStore:
    return of_experiment(root, "ablation", ablation.MODES, list(ablation.VARIANTS), "full")


def _line(theme: Theme) -> Figure:
    figure = Figure(figsize=(2, 2))
    figure.subplots().plot([0, 1], [0, 1], color=theme.text)
    return figure


def _outside(text: str) -> list[str]:
    links = re.findall(r'(?:src|href|srcset)="([^"]+)"', text)
    return [link for link in links if not link.startswith(("data:", "#"))]


def test_sections_become_page_markdown_and_pictures(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    grid = Grid("A <table>", ["a", "b"], [["x", "1.0"]], ["a note"])
    sections = [
        Section("First part", ["Some words."], [grid], {"line": Picture("A line.", _line)}),
        Section("Second", figures={"nothing": Picture("Not drawn.", lambda theme: None)}),
    ]
    frames = {"numbers": pd.DataFrame({"a": [1]})}
    page = write_results(_store(tmp_path), Page("A title", ["A lead."], sections, [grid], frames))
    text = page.read_text()
    assert _outside(text) == []
    assert text.count("<script") == 1
    for said in ("A title", "A lead.", "Some words.", "A &lt;table&gt;", "a note", "made up", 'id="first-part"'):
        assert said in text
    assert "Not drawn." not in text
    markdown = (tmp_path / "report.md").read_text()
    assert "## First part" in markdown
    assert "![A line.](figures/line.svg)" in markdown
    assert [path.name for path in (tmp_path / "figures").iterdir()] == ["line.svg"]
    assert (tmp_path / "numbers.csv").read_text() == "a\n1\n"
    printed = capsys.readouterr().out
    assert "A <table>" in printed
    assert f"report: {page}  (tables: {tmp_path / 'report.md'}, {tmp_path / 'numbers.csv'})" in printed


def test_tables_are_looked_at_one_at_a_time_and_intervals_are_small(tmp_path: Path) -> None:
    rows = [["mine", "0.5 [0.4, 0.6]", "1"], ["other", "▼ 0.1 [0.0, 0.2]", "2"]]
    one = Grid("One", ["method", "BF1", "n"], rows, methods=["mine", "other"], best={(0, 1)})
    sections = [Section("Tables", grids=[one, Grid("Two", ["a"], [["b"]])], tabs=["first", "second"])]
    page = Page("A title", [], sections, subject="mine", swatches={"mine": "background:red"})
    text = write_results(_store(tmp_path), page).read_text()
    assert text.count('type="radio"') == 2
    assert '#tables-1:checked ~ [data-tab="tables-1"]' in text
    assert text.count("<b>0.5</b><small>[0.4, 0.6]</small>") == 1
    assert len(re.findall(r'class="[^"]* best"', text)) == 1
    assert len(re.findall(r'class="[^"]* below"', text)) == 1
    assert text.count('class="swatch" style="background:red"') == 1
    assert len(re.findall(r'<tr class="\s*subject">', text)) == 1


def test_the_method_of_a_row_stays_in_sight_wherever_its_column_is(tmp_path: Path) -> None:
    levels = Grid("Levels", ["level", "method", "BF1"], [["h50_m70", "mine", "0.5"]], left=2, methods=["mine"])
    methods = Grid("Methods", ["method", "what"], [["mine", "a text"]], left=2, methods=["mine"])
    page = Page("A title", [], [Section("Tables", grids=[levels, methods])], swatches={"mine": "background:red"})
    text = write_results(_store(tmp_path), page).read_text()
    # once a table, with the colour in the same cell
    assert len(re.findall(r'<td class="left key"><span class="swatch"[^>]*></span>mine</td>', text)) == 2
    assert len(re.findall(r'<th class="left key">method</th>', text)) == 2
    assert len(re.findall(r'class="[^"]* key"', text)) == 4


def test_the_ablation_is_laid_out_as_table_3(tmp_path: Path) -> None:
    store = _store(tmp_path)
    for level in ("h40_m30", "h70_m95"):
        for variant in ablation.VARIANTS:
            add(store, "own", level, variant, quality=0.8 if variant == "full" else 0.6)
    write_results(store, ablation.Ablation.page(store))
    text = (tmp_path / "report.md").read_text()
    assert re.search(r"\| full \| 0\.(59|60|61)\d\d \[", text)
    assert "The paper's Table 3" in text
    assert "| variant | h40_m30 | h70_m95 |" in text


def test_the_landscape_has_a_map_and_slices(tmp_path: Path) -> None:
    modes = {"own": "own quotas", "blocks": "half of one block"}
    store = of_experiment(tmp_path, "landscape", modes, ["medcore"], "medcore")
    for heads in (30, 50, 70):
        for neurons in (30, 80):
            quality, removed = 0.9 - heads / 500 - neurons / 400, (heads + 2 * neurons) / 300
            add(store, "own", f"h{heads}_m{neurons}", "medcore", quality=quality, removed=removed)
    add(store, "own", "h50_m70", "medcore", quality=0.6, removed=0.6)
    add(store, "blocks", "h50_m50", "block_00", quality=0.7)
    add(store, "blocks", "h50_m50", "block_01", quality=0.8)
    write_results(store, landscape.Landscape.page(store))
    assert {path.stem for path in (tmp_path / "figures").iterdir()} == {"landscape", "slices", "blocks"}
    text = (tmp_path / "report.md").read_text()
    assert "| h30_m80 |" in text
    assert "0.376" in text


def _record(*place: str, best_step: int = 2) -> dict[str, object]:
    latency = {"median_ms": 10.0, "peak_bytes": 4_000_000}
    stage = {
        "name": "recovery",
        "seconds": 3.0,
        "losses": {"loss": [0.5, 0.4, 0.3, 0.2], "dice": [0.3, 0.2, 0.2, 0.1]},
        "validations": [[0, 0.3, 0.8, 1.0], [2, 0.5, 0.9, 0.01], [4, 0.4, 0.9, 0.01]],
        "best_step": best_step,
        "stopped_early": False,
    }
    half = {"median_ms": 5.0, "peak_bytes": 2_000_000}
    return {"origin": "x", "place": list(place), "stages": [stage], "latency": {"unpruned": latency, "model": half}}


def test_table_1_shows_latency_and_what_each_step_adds(tmp_path: Path) -> None:
    modes = {"cut": "cut", "corrected": "corrected", "one_time": "recovered", "corrected_recovered": "both"}
    store = of_experiment(tmp_path, "main", modes, ["medcore"], "medcore")
    add(store, "any", "none", main.UNPRUNED_RECOVERED, quality=0.95)
    # a run stores the unpruned model that was recovered as any other
    store.write_analysis("model-any", _record("any", main.UNPRUNED_RECOVERED, "none"))
    for mode, quality in (("cut", 0.5), ("corrected", 0.7), ("one_time", 0.9), ("corrected_recovered", 0.7)):
        add(store, mode, "h40_m30", "medcore", quality=quality)
        record = _record(mode, "medcore", "h40_m30", best_step=0 if mode == "corrected_recovered" else 2)
        if mode in ("cut", "corrected"):
            record["stages"] = [{"name": "all", "seconds": 1.0}]
        store.write_analysis(f"model-{mode}-medcore-h40_m30", record)
    write_results(store, main.Main.page(store))
    text = (tmp_path / "report.md").read_text()
    assert re.search(r"\| recovered \| h40_m30 \|.*\| 5\.0 \| 0\.50 \| 2\.0 \| the weights after step 2 are", text)
    # figures that equal those before recovery say why they do
    assert re.search(r"\| both \| h40_m30 \|.*\| nothing gained: the input model is returned \|", text)
    assert re.search(r"\| corrected \| h40_m30 \|.*\| – \|", text)
    gains = next(line for line in text.splitlines() if line.startswith("| level | correction | recovery |"))
    assert gains.endswith("| corrected, recovered − unpruned recovered |")
    row = next(line for line in text.splitlines() if line.startswith("| h40_m30 | +0.2"))
    assert row.count("[") == len(row.split("|")) - 3 == 8
    assert "| +0.0000 [+0.000, +0.000] |" in row
    assert re.search(r"\| h40_m30 \| \+0\.2\d+ \[", text)
    assert "The paper's Table 1" in text
    assert "| one time medcore h40 m30 | recovery | 4 | the weights after step 2 are returned |" in text
    assert (
        "| corrected recovered medcore h40 m30 | recovery | 4 | nothing gained: the input model is returned |" in text
    )
    assert {path.stem for path in (tmp_path / "figures").iterdir()} == {"size", "steps", "losses"}


def test_the_validation_curves_are_drawn_from_what_is_stored() -> None:
    made = {mode: _record(mode, "medcore", "h40_m30") for mode in ("one_time", "corrected_recovered")}
    made["any"] = _record("any", main.UNPRUNED_RECOVERED, "none", best_step=0)
    figure = validation_curves(made, THEMES["light"])
    assert figure is not None
    (axis,) = figure.axes
    lines = {str(line.get_label()): line for line in axis.lines if not str(line.get_label()).startswith("_")}
    assert set(lines) == {"h40_m30, one time", "h40_m30, corrected recovered", "unpruned"}
    assert list(lines["unpruned"].get_xdata()) == [0, 2, 4]
    assert list(lines["unpruned"].get_ydata()) == [0.3, 0.5, 0.4]
    made["any"]["stages"] = [{"name": "all", "seconds": 1.0}]
    assert validation_curves({"any": made["any"]}, THEMES["light"]) is None


def test_table_2_stands_by_data_set(tmp_path: Path) -> None:
    store = of_experiment(tmp_path, "transfer", transfer.MODES, ["medcore"], "medcore")
    add(store, "any", "none", main.UNPRUNED_RECOVERED, quality=0.95)
    for mode, quality in (("joint_cut", 0.5), ("joint_corrected", 0.7), ("joint", 0.8), ("own", 0.85)):
        add(store, mode, "h50_m70", "medcore", quality=quality)
    write_results(store, transfer.Transfer.page(store))
    text = (tmp_path / "report.md").read_text()
    assert "| set_a |" in text
    assert "| set_b |" in text
    assert "shared − own plan" in text
    assert "| h50_m70 | one plan for all modalities, corrected, no recovery |" in text
    assert "The paper's Table 2" in text
