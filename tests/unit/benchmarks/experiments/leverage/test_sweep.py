"""The sweep: its cells, its parts as files, and its figures against a plain restatement."""

from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from tiny import tiny_sam
from tiny_samples import TinySamples
from torch import nn

from medcore_prune._support.errors import ResultsError
from medcore_prune.benchmarks.experiments.leverage import sweep as sweeping
from medcore_prune.benchmarks.experiments.leverage.steps import StepGrid
from medcore_prune.benchmarks.experiments.leverage.summary import Sampled, summarise_sweep
from medcore_prune.benchmarks.experiments.leverage.sweep import BANDS, HEADLINE, Cells, measure, parts_of, sweep
from medcore_prune.benchmarks.runner.settings import Settings
from medcore_prune.benchmarks.runner.store import read_arrays
from medcore_prune.data.frame import Frame
from medcore_prune.data.samples import SampleSet
from medcore_prune.evaluation.evaluate import macro_average, predict, score
from medcore_prune.evaluation.images import EvaluationSet
from medcore_prune.evaluation.intervals import Bootstrap
from medcore_prune.evaluation.leverage import Before, BoundaryLeverage
from medcore_prune.evaluation.pooled import RELATIVE_ERROR
from medcore_prune.models.protocol import input_logits, low_res_logits
from medcore_prune.pruning.cost import count
from medcore_prune.pruning.level import Level
from medcore_prune.pruning.planning import make_plan
from medcore_prune.pruning.surgery import masked, prune

# 4 blocks of 4 heads and 96 neurons, nothing protected by default: at most 12 heads go, so the last two levels coincide
GRID = StepGrid(heads=(0.25, 0.5, 0.8, 0.9), neurons=(0.3, 0.6))
SETS: dict[str, SampleSet] = {"a": TinySamples("a", 3), "b": TinySamples("b", 2)}
SETTINGS = Settings(Path("unused"), batch_size=2)


@pytest.fixture(scope="module")
def model() -> nn.Module:
    return tiny_sam()


@pytest.fixture(scope="module")
def cells(model: nn.Module) -> Cells:
    return Cells.of(model, GRID, {level: make_plan(model, level) for level in GRID.levels})


@pytest.fixture(scope="module")
def swept(model: nn.Module, cells: Cells, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Path]]:
    root = tmp_path_factory.mktemp("sweep")
    return root, sweep(model, cells, SETS, SETTINGS, root)


def test_cells_beyond_saturation_are_measured_once(cells: Cells) -> None:
    assert len(cells.plans) == 8
    assert len(cells.distinct) == 6
    assert cells.place[Level(0.8, 0.3)] == cells.place[Level(0.9, 0.3)]
    # per MLP level two head steps, the third saves nothing; per head level one MLP step, two of which are the same
    assert len(cells.saved) == 2 * 2 + 4
    assert len(cells.moves) == 2 * 2 + 3
    assert all(cells.returning(step) == 0 for step in cells.saved)


def test_units_that_return_are_counted(model: nn.Module) -> None:
    plans = {level: make_plan(model, level) for level in GRID.levels}
    other = {(g, "heads"): -torch.arange(4.0) for g in range(4)} | {
        (g, "neurons"): torch.arange(96.0) for g in range(4)
    }
    level = Level(0.5, 0.3)
    plans[level] = make_plan(model, level, scores=other)  # type: ignore[arg-type]
    mixed = Cells.of(model, GRID, plans)
    (first,) = [step for step in mixed.saved if step.family == "heads" and step.stop == level]
    # the one head that was gone of each open block comes back
    gone_before = plans[first.start].removed("heads")
    assert 0 < mixed.returning(first) <= gone_before


def test_parts_cover_all_images_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sweeping, "_PART", 2)
    parts = list(parts_of(SETS))
    assert [(part.dataset, part.start, len(part.samples)) for part in parts] == [("a", 0, 2), ("a", 2, 1), ("b", 0, 2)]
    assert parts[1].samples.ids == [SETS["a"].ids[2]]


def test_a_part_does_not_depend_on_how_images_are_batched(model: nn.Module, cells: Cells) -> None:
    together = measure(model, cells, SETS["b"], Settings(Path("unused"), batch_size=16))
    single = measure(model, cells, SETS["b"], Settings(Path("unused"), batch_size=1))
    np.testing.assert_allclose(together[f"sums_{HEADLINE}"], single[f"sums_{HEADLINE}"], rtol=1e-3)
    np.testing.assert_array_equal(
        together[f"counts_{HEADLINE}"].sum(axis=-1), single[f"counts_{HEADLINE}"].sum(axis=-1)
    )


def test_stored_parts_are_kept_and_damaged_ones_measured_again(
    model: nn.Module, cells: Cells, swept: tuple[Path, list[Path]], monkeypatch: pytest.MonkeyPatch
) -> None:
    root, paths = swept
    before = [read_arrays(path, cells.digest) for path in paths]
    kept = paths[0].read_bytes()
    measured: list[int] = []
    real = sweeping.measure

    def counting(*given: object) -> object:
        measured.append(1)
        return real(*given)  # type: ignore[arg-type]

    monkeypatch.setattr(sweeping, "measure", counting)
    assert sweep(model, cells, SETS, SETTINGS, root) == paths
    assert not measured
    paths[1].write_bytes(paths[1].read_bytes()[:200])
    sweep(model, cells, SETS, SETTINGS, root)
    assert len(measured) == 1
    assert paths[0].read_bytes() == kept
    again = read_arrays(paths[1], cells.digest)
    assert before[1] is not None
    assert again is not None
    assert all(np.array_equal(again[name], before[1][name]) for name in again)


def test_parts_of_other_plans_are_not_taken(cells: Cells, swept: tuple[Path, list[Path]]) -> None:
    _, paths = swept
    assert read_arrays(paths[0], cells.digest) is not None
    assert read_arrays(paths[0], "0" * 64) is None
    assert read_arrays(paths[0].with_name("other.npz"), cells.digest) is None


def test_a_missing_part_is_named(cells: Cells, swept: tuple[Path, list[Path]], tmp_path: Path) -> None:
    with pytest.raises(ResultsError, match=r"gone\.npz is missing or damaged"):
        summarise_sweep([*swept[1], tmp_path / "gone.npz"], cells, 10)


def test_figures_of_a_sweep_are_their_definitions(
    model: nn.Module, cells: Cells, swept: tuple[Path, list[Path]]
) -> None:
    found = summarise_sweep(swept[1], cells, 20)
    images = {name: EvaluationSet(each, Frame(48), 256) for name, each in SETS.items()}
    dense = count(model)

    @cache
    def logits(level: Level, name: str) -> torch.Tensor:
        with torch.no_grad(), masked(model, cells.plans[level]):
            batch = next(images[name].batches(len(images[name])))
            return input_logits(low_res_logits(model, batch.images, batch.boxes), 256)

    def leverage(start: Level, stop: Level, band: str) -> BoundaryLeverage:
        saved = count(model, cells.plans[start]).params - count(model, cells.plans[stop]).params
        built = BoundaryLeverage(100 * saved / dense.params)
        around, px = BANDS[band]
        for name, each in images.items():
            truth = torch.from_numpy(np.stack(each.true_masks))[:, None]
            built.add(Before.of(logits(start, name), truth, around=around, band_px=px), logits(stop, name))
        return built

    def metrics_of(model: nn.Module) -> pd.Series:
        return macro_average(pd.concat([score(predict(model, each), each) for each in images.values()]))

    metrics = {level: metrics_of(prune(model, plan)) for level, plan in cells.plans.items()}
    of_family: dict[str, list[float]] = {"heads": [], "neurons": []}
    damage: dict[str, list[float]] = {"heads": [], "neurons": []}
    for row in found["steps"]:
        start, stop = Level.parse(row["start"]), Level.parse(row["stop"])
        for band in BANDS:
            built = leverage(start, stop, band)
            assert row[f"{band}_q95"] == pytest.approx(built.quantile(), rel=RELATIVE_ERROR + 1e-3)
            assert row[f"{band}_mean"] == pytest.approx(built.mean(), rel=2e-3)
        of_family[row["family"]].append(row[f"{HEADLINE}_q95"])
        damage[row["family"]].append((metrics[start]["bf1"] - metrics[stop]["bf1"]) / row["saved_percent"])
        assert row["bf1_damage"] == pytest.approx(damage[row["family"]][-1], abs=2e-3)
    band = found["bands"][HEADLINE]
    heads, neurons = (float(np.median(values)) for values in of_family.values())
    assert band["blr"]["value"] == pytest.approx(heads / neurons)
    assert band["bsr"]["value"] == pytest.approx(band["blr"]["value"] / found["image"]["rlr"]["value"])
    assert found["damage"]["bf1"]["heads"]["value"] == pytest.approx(np.mean(damage["heads"]), abs=2e-3)


def test_counts_of_a_sweep(cells: Cells, swept: tuple[Path, list[Path]]) -> None:
    found = summarise_sweep(swept[1], cells, 20)
    assert found["counts"] | {"groups": None} == {
        "cells": 8,
        "plans": 6,
        "heads": 4,
        "neurons": 4,
        "heads_distinct": 4,
        "neurons_distinct": 3,
        "paired": 2,
        "returning": 0,
        "images": 5,
        "groups": None,
        "draws": 20,
    }


def test_paired_steps_of_a_sweep(cells: Cells, swept: tuple[Path, list[Path]]) -> None:
    found = summarise_sweep(swept[1], cells, 20)
    band = found["bands"][HEADLINE]
    # from h25_m30 and h50_m30 both a head step and an MLP step are valid
    pairs = [
        (next(r for r in found["steps"] if (r["family"], r["start"]) == (family, start))[f"{HEADLINE}_q95"])
        for start in ("h25_m30", "h50_m30")
        for family in ("heads", "neurons")
    ]
    wins = np.mean([pairs[0] > pairs[1], pairs[2] > pairs[3]])
    assert band["win_rate"]["value"] == wins
    assert band["paired_ratio"]["value"] == pytest.approx(np.median([pairs[0] / pairs[1], pairs[2] / pairs[3]]))


def test_draws_pool_images_as_often_as_they_are_drawn() -> None:
    rng = np.random.default_rng(0)
    values = rng.lognormal(size=(3, 50))
    counts = np.stack([sweeping._counts([torch.tensor(v)])[0] for v in values])[None]
    drawn = Sampled(["a"] * 3, ["x", "y", "z"], np.array([[1.0, 1, 1], [2, 0, 1]]))
    found = drawn.pooled_quantile(counts, 0.9)[:, 0]
    pooled = [values.ravel(), np.concatenate([values[0], values[0], values[2]])]
    expected = [np.quantile(v, 0.9, method="inverted_cdf") for v in pooled]
    np.testing.assert_allclose(found, expected, rtol=RELATIVE_ERROR)


def test_groups_are_drawn_whole_within_their_data_set() -> None:
    datasets, groups = ["a"] * 4 + ["b"] * 2, ["v", "v", "w", "x", "v", "y"]
    drawn = Sampled.of(datasets, groups, 200)
    assert (drawn.weights[0] == 1).all()
    assert (drawn.weights[:, 0] == drawn.weights[:, 1]).all()
    assert (drawn.weights[1:, [0, 2, 3]].sum(axis=1) == 3).all()  # as many groups as there are
    assert (drawn.weights[1:, 4:].sum(axis=1) == 2).all()
    assert (drawn.weights[1:, 0] != drawn.weights[1:, 4]).any()  # v of a and v of b are not one group


def test_macro_averages_agree_with_the_comparisons() -> None:
    rng = np.random.default_rng(1)
    values = rng.normal(size=(2, 6))
    datasets, groups = ["a"] * 4 + ["b"] * 2, list("uvwxyz")
    drawn = Sampled.of(datasets, groups, 3000)
    found = drawn.macro(values)
    other = Bootstrap({"a": groups[:4], "b": groups[4:]}, draws=3000)
    for row, own in enumerate(values):
        point, draws = other.macro({"a": own[:4], "b": own[4:]})
        assert found[0, row] == pytest.approx(point)
        assert found[1:, row].std() == pytest.approx(draws.std(), rel=0.1)
