"""The report is made from files alone and needs nothing but itself."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bench_store import build
from skimage import io

from medcore_prune.benchmarks.report import comparison
from medcore_prune.benchmarks.report.page import write_results
from medcore_prune.benchmarks.report.plots.comparison import Removed, draw
from medcore_prune.benchmarks.report.plots.style import SUBJECT_COLOUR, THEMES, looks
from medcore_prune.benchmarks.runner.store import ResultStore
from medcore_prune.models.segment_anything import build_sam
from medcore_prune.pruning.planning import make_plan


def render(store: ResultStore, **options: Any) -> Path:
    return write_results(store, comparison.page(store, **options))


OUTLINE = [[[0.2, 0.2], [0.8, 0.2], [0.8, 0.8], [0.2, 0.2]]]


def _with_gallery(store: ResultStore) -> ResultStore:
    (store.root / "gallery").mkdir()
    io.imsave(store.root / "gallery" / "set_a-0.png", np.zeros((8, 8, 3), np.uint8), check_contrast=False)
    shown = {"contours": OUTLINE, "bf1": 0.5, "dice": 0.75}
    picture = {
        "dataset": "set_a",
        "name": "<first>",
        "file": "gallery/set_a-0.png",
        "size": [8, 8],
        "box": [0.1, 0.1, 0.9, 0.9],
        "true": OUTLINE,
        "predicted": {"unpruned": shown, "h40_m30/medcore": shown},
    }
    store.write_analysis("gallery", {"state": {}, "pictures": [picture]})
    return store


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return render(_with_gallery(build(tmp_path_factory.mktemp("results"))))


def test_the_page_needs_nothing_else(page: Path) -> None:
    text = page.read_text()
    outside = [
        link for link in re.findall(r'(?:src|href|srcset)="([^"]+)"', text) if not link.startswith(("data:", "#"))
    ]
    assert outside == []
    assert text.count("<script") == 1
    assert "@import" not in text
    assert "url(" not in text


def test_the_page_says_what_it_must(page: Path) -> None:
    text = page.read_text()
    assert text.count("made up") >= 2
    assert text.lower().startswith("<!doctype html>")
    assert "prefers-color-scheme: dark" in text
    assert "floor: ellipse" in text
    assert "BF1 0.50 · Dice 0.75" in text
    assert "corrected models apart" in text
    assert "Indicative only: set_a, set_b have fewer than 10 groups" in text
    assert text.index("What to take") < text.index("Where medcore stands") < text.index("Provenance</h2>")
    assert "Contours are shown on the part around the box" in text


def test_names_of_images_are_escaped(page: Path) -> None:
    assert "<first>" not in page.read_text()
    assert "&lt;first&gt;" in page.read_text()


def test_tables_and_figures_are_files_too(page: Path) -> None:
    figures = sorted(path.name for path in (page.parent / "figures").iterdir())
    assert figures == ["compression.svg", "differences.svg", "methods.svg", "removed.svg"]
    assert all(path.read_text().startswith("<?xml") for path in (page.parent / "figures").iterdir())
    markdown = (page.parent / "report.md").read_text()
    assert "**made up**" in markdown
    assert "| floor: box |" in markdown
    assert (page.parent / "comparison.csv").read_text().startswith("mode,level,method")


def test_rendering_again_gives_the_same_files(page: Path) -> None:
    names = ("report.html", "report.md", "comparison.csv", "differences.csv", "figures/compression.svg")
    before = {name: (page.parent / name).read_bytes() for name in names}
    render(ResultStore.open(page.parent))
    assert {name: (page.parent / name).read_bytes() for name in names} == before


def test_no_gallery_leaves_pictures_out(tmp_path: Path) -> None:
    text = render(_with_gallery(build(tmp_path)), gallery=False).read_text()
    assert "data:image/png" not in text
    assert "&lt;first&gt;" not in text


def test_the_subject_can_be_another_one(tmp_path: Path) -> None:
    text = render(build(tmp_path), subject="zero_fisher").read_text()
    assert "Where zero_fisher stands" in text
    assert "2 of 3" in text


def test_the_best_method_stands_in_for_an_absent_subject_and_the_page_says_so_at_its_top(tmp_path: Path) -> None:
    text = render(build(tmp_path), subject="reset").read_text()
    top, rest = text.split("<nav>")
    # of the best quality in these results
    assert "reset did not take part. In its place medcore is compared with each other method" in top
    assert "picked on these very images" in top
    assert "Where medcore stands" in rest
    assert "medcore minus each method" in rest
    assert "did not take part" not in render(build(tmp_path / "own")).read_text()


def test_the_map_fills_what_goes() -> None:
    plan = make_plan(build_sam("pocket", device="meta"), "h50_m70")
    removed = Removed.of(plan)
    assert removed.heads.sum() == plan.removed("heads")
    assert removed.neurons.sum() * 480 == pytest.approx(plan.removed("neurons"))
    assert not removed.heads[:, 10:].any()
    pixels = draw(removed, "#ff0000", THEMES["light"])
    red = (pixels[:, :, 0] == 1) & (pixels[:, :, 1] == 0)
    # the first head of block 0 goes when nothing ranks the units, and the last block is protected
    assert red[0, 0]
    assert not red[:, -6:].any()


def test_the_subject_stands_out_and_looks_differ() -> None:
    found = looks(["a", "b", "medcore"], "medcore")
    assert found["medcore"].colour == SUBJECT_COLOUR
    assert len({(look.colour, look.marker) for look in found.values()}) == 3
    many = looks([str(number) for number in range(25)], "3")
    assert len({(look.colour, str(look.line)) for look in many.values()}) == 25
    assert len({look.swatch for look in list(many.values())[:20]}) == 20
