"""The test of Theorem 3.3: what is stored of contours, and their correlations."""

from pathlib import Path

import numpy as np
import pytest
from scipy.stats import pearsonr, spearmanr
from tiny import tiny_sam
from tiny_samples import TinySamples

from medcore_prune._support.errors import ResultsError
from medcore_prune.benchmarks.experiments.leverage import contours
from medcore_prune.benchmarks.experiments.leverage.contours import (
    LEVELS,
    STEPS,
    measure_contours,
    picture_steps,
    read_contours,
    summarise_contours,
)
from medcore_prune.pruning.planning import make_plan


def test_steps_remove_the_named_share_of_one_family() -> None:
    first, last = STEPS[0], STEPS[-1]
    assert (first.family, str(first.level)) == ("heads", "h31_m30")
    assert (last.family, str(last.level)) == ("neurons", "h30_m50")


def stored(gain: float, noise: float) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    predicted = rng.normal(size=(len(STEPS), 60))
    measured = gain * predicted + noise * rng.normal(size=predicted.shape)
    measured[:, 7] = np.nan
    return {
        "step": np.repeat(np.arange(len(STEPS)), 60),
        "image": np.tile(np.repeat(np.arange(6), 10), len(STEPS)),
        "predicted": predicted.ravel(),
        "measured": measured.ravel(),
        "datasets": np.array(["a"] * 6),
        "groups": np.array(list("uvwxyz")),
    }


def test_correlations_are_those_of_the_points_that_were_found() -> None:
    data = stored(2.0, 0.8)
    rows = summarise_contours(data, 300)
    assert [(row["family"], row["size"]) for row in rows] == [(step.family, step.size) for step in STEPS]
    for place, row in enumerate(rows):
        x, y = (data[name].reshape(len(STEPS), 60)[place] for name in ("predicted", "measured"))
        there = ~np.isnan(y)
        assert row["points"] == 60
        assert row["found"] == pytest.approx(59 / 60)
        assert row["moved_px"] == pytest.approx(np.median(np.abs(y[there])))
        assert row["error_px"] == pytest.approx(np.median(np.abs(y - x)[there]))
        assert row["pearson"]["value"] == pytest.approx(pearsonr(x[there], y[there])[0])
        assert row["spearman"]["value"] == pytest.approx(spearmanr(x[there], y[there])[0])
        assert row["pearson"]["low"] < row["pearson"]["value"] < row["pearson"]["high"]


def test_a_step_without_points_says_so() -> None:
    data = stored(1.0, 0.1)
    data["measured"] = np.full_like(data["measured"], np.nan)
    row = summarise_contours(data, 20)[0]
    assert (row["found"], row["moved_px"], row["pearson"]["value"]) == (0.0, None, None)


def test_contours_are_measured_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny_sam()
    plans = {level: make_plan(model, level, protect=1) for level in LEVELS}
    sets = {"a": TinySamples("a", 2)}
    path = measure_contours(model, plans, sets, "this", tmp_path)
    found = read_contours(tmp_path)
    assert list(found["datasets"]) == ["a", "a"]
    assert found["step"].shape == found["measured"].shape == found["predicted"].shape
    # one percent of 384 neurons; by ranks, because an untrained map is flat in places and predicts anything there
    place = next(place for place, step in enumerate(STEPS) if (step.family, step.size) == ("neurons", 0.01))
    small = (found["step"] == place) & np.isfinite(found["measured"])
    assert small.sum() > 20
    assert spearmanr(found["predicted"][small], found["measured"][small])[0] > 0.8
    assert [values.shape[0] for _, values in picture_steps(found)] == [2, 2, 2, 2]
    before = path.read_bytes()
    monkeypatch.setattr(contours, "_maps", None)  # what is stored is not measured again
    measure_contours(model, plans, sets, "this", tmp_path)
    assert path.read_bytes() == before
    with pytest.raises(TypeError):
        measure_contours(model, plans, sets, "other", tmp_path)


def test_missing_contours_are_named(tmp_path: Path) -> None:
    with pytest.raises(ResultsError, match=r"contours\.npz is missing"):
        read_contours(tmp_path)
