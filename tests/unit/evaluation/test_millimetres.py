"""Distances in millimetres: only where the spacing of pixels is known, and right on grids of any shape."""

import math
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image
from tiny import tiny_sam

import medcore_prune as mp
from medcore_prune._support.errors import DataError, MetricError
from medcore_prune.commands.cli import cli
from medcore_prune.evaluation.metrics import boundary, evaluate_mask, hd95_mm


def slow(pred: np.ndarray, true: np.ndarray, spacing: tuple[float, float]) -> float:
    """Each boundary pixel's distance to the nearest of the other mask, one after the other."""
    edges = [np.argwhere(boundary(mask)) * spacing for mask in (pred, true)]
    directed = []
    for here, there in (edges, edges[::-1]):
        nearest = [min(math.dist(one, other) for other in there) for one in here]
        directed.append(float(np.percentile(nearest, 95)))
    return max(directed)


def test_millimetres_are_those_of_a_plain_loop() -> None:
    rng = np.random.default_rng(0)
    for _ in range(10):
        pred, true = (np.zeros((20, 30), bool) for _ in range(2))
        for mask in (pred, true):
            row, column = rng.integers(0, 10), rng.integers(0, 15)
            mask[row : row + rng.integers(2, 10), column : column + rng.integers(2, 15)] = True
        spacing = (float(rng.uniform(0.1, 3)), float(rng.uniform(0.1, 3)))
        assert hd95_mm(pred, true, spacing) == pytest.approx(slow(pred, true, spacing))
        assert hd95_mm(pred, true, (1.0, 1.0)) == pytest.approx(evaluate_mask(pred, true).hd95_px)


def test_empty_masks_and_spacings_that_are_none() -> None:
    some, none = np.eye(4, dtype=bool), np.zeros((4, 4), bool)
    assert hd95_mm(none, none, (3.0, 4.0)) == 0
    assert hd95_mm(some, none, (3.0, 4.0)) == 20.0
    for spacing in ((0.0, 1.0), (math.nan, 1.0), (1.0, -1.0)):
        with pytest.raises(MetricError, match="expected a pixel spacing above 0 mm"):
            hd95_mm(some, some, spacing)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    mp.save(tiny_sam(), "model.safetensors")
    for number in range(3):
        pixels = np.random.default_rng(number).integers(0, 255, (40, 80, 3), dtype=np.uint8)
        mask = np.zeros((40, 80), np.uint8)
        mask[10:30, 20:60] = 255
        for kind, values in (("images", pixels), ("masks", mask)):
            (tmp_path / "set" / kind).mkdir(parents=True, exist_ok=True)
            Image.fromarray(values).save(tmp_path / "set" / kind / f"i{number}.png", dpi=(72, 72))
    return tmp_path


def evaluated(*words: str) -> str:
    result = CliRunner().invoke(cli, ["evaluate", "model.safetensors", "--data", "own=set", "--role", "all", *words])
    assert result.exit_code == 0, result.output
    return result.output


def test_a_grid_of_another_shape_has_the_same_millimetres(here: Path) -> None:
    (here / "set" / "manifest.csv").write_text("name,spacing_mm\ni0,0.5\ni1,0.5 0.25\ni2,\n")
    samples = mp.data.folder(here / "set")
    assert [sample.spacing_mm for sample in samples] == [(0.5, 0.5), (0.5, 0.25), None]
    model = mp.load("model.safetensors")
    square, own = (mp.evaluate(model, samples, eval_size=size, progress=False)["hd95_mm"] for size in (160, "original"))
    assert math.isnan(square[2])
    assert math.isnan(own[2])
    # 160 x 160 pixels of 0.125 x 0.25 mm in place of 40 x 80 of 0.5 mm: apart by less than their diagonals
    np.testing.assert_allclose(square[:2], own[:2], atol=1.0)
    frame = mp.data.Frame(model.image_encoder.img_size)
    from medcore_prune.evaluation.evaluate import EvaluationSet

    assert EvaluationSet(samples, frame, 160).spacings_mm == [(0.125, 0.25), (0.125, 0.125), None]


def test_the_command_shows_them_where_they_are_known_and_never_otherwise(here: Path) -> None:
    # dots per inch are no millimetres of what is shown
    assert "mm" not in evaluated()
    (here / "set" / "manifest.csv").write_text("name,spacing_mm\ni0,0.5\ni1,0.5 0.25\ni2,\n")
    text = evaluated("--out", "out")
    assert "HD95 mm" in text
    assert "HD95 mm: of the 2 of 3 images whose pixel spacing is known." in text
    assert "hd95_mm" in (here / "out" / "images.csv").read_text()


@pytest.mark.parametrize("cell", ["0", "-1", "a", "1 2 3", "nan", "inf"])
def test_a_spacing_that_is_none(here: Path, cell: str) -> None:
    (here / "set" / "manifest.csv").write_text(f"name,spacing_mm\ni0,0.5\ni1,{cell}\ni2,\n")
    with pytest.raises(DataError, match=r"no pixel spacing in manifest\.csv .*\(1\): images/i1\.png"):
        mp.data.folder(here / "set")
