"""Boundary leverage: histograms, bands, accumulators, ratios, and the steps of the sweep on ViT-B."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from medcore_prune._support.errors import BudgetError, MetricError
from medcore_prune.benchmarks.experiments.leverage.steps import Step, StepGrid, paired_cells, valid_steps
from medcore_prune.evaluation.leverage import (
    Before,
    BoundaryLeverage,
    damage_density,
    leverage_ratio,
    paired_win_rate,
    slope,
    specificity,
)
from medcore_prune.evaluation.pooled import N_BINS, RELATIVE_ERROR, PooledValues, histogram, histogram_quantile
from medcore_prune.models.segment_anything import build_sam
from medcore_prune.pruning.cost import count
from medcore_prune.pruning.level import Level
from medcore_prune.pruning.planning import make_plan


def exact_quantile(values: np.ndarray, q: float) -> float:
    return float(np.sort(values)[max(1, int(np.ceil(q * len(values) - 1e-9))) - 1])


@given(st.integers(0, 10_000), st.integers(1, 400), st.sampled_from([0.05, 0.5, 0.95, 1.0]))
def test_a_histogram_knows_quantiles_within_its_stated_error(seed: int, size: int, q: float) -> None:
    values = np.exp(np.random.default_rng(seed).normal(0, 2, size)).astype(np.float32)
    counts = histogram(torch.tensor(values))
    assert counts.shape == (N_BINS,)
    assert int(counts.sum()) == size
    found = float(histogram_quantile(counts.numpy(), q))
    assert abs(found / exact_quantile(values, q) - 1) <= RELATIVE_ERROR + 1e-6


def test_histograms_add_like_pools() -> None:
    parts = torch.rand(5, 300).exp()
    added = sum(histogram(part) for part in parts)
    assert isinstance(added, torch.Tensor)
    assert torch.equal(added, histogram(parts.flatten()))


def test_values_outside_of_the_bins() -> None:
    low, high = histogram(torch.zeros(3)).numpy(), histogram(torch.tensor([torch.inf, 1e9])).numpy()
    assert histogram_quantile(low, 0.5) == 0
    assert histogram_quantile(high, 0.5) == np.inf
    assert np.isnan(histogram_quantile(np.zeros(N_BINS), 0.5))


@pytest.mark.parametrize("bad", [-1.0, float("nan")])
def test_what_is_no_magnitude_is_refused(bad: float) -> None:
    with pytest.raises(MetricError, match="at least 0"):
        histogram(torch.tensor([1.0, bad]))


def test_a_pool_is_exact_while_small_and_close_when_large() -> None:
    values = torch.rand(4000, generator=torch.Generator().manual_seed(0)).exp()
    exact, counted = PooledValues(), PooledValues(exact_limit=100)
    for part in values.split(700):
        exact.add(part)
        counted.add(part)
    assert exact.quantile(0.95) == exact_quantile(values.numpy(), 0.95)
    assert counted.quantile(0.95) != exact.quantile(0.95)
    assert counted.quantile(0.95) == pytest.approx(exact.quantile(0.95), rel=RELATIVE_ERROR)
    assert counted.mean() == pytest.approx(float(values.double().mean()), rel=1e-12)


def test_an_empty_pool_and_a_bad_quantile_are_refused() -> None:
    with pytest.raises(MetricError, match="no values"):
        PooledValues().quantile(0.5)
    pool = PooledValues()
    pool.add(torch.ones(3))
    with pytest.raises(MetricError, match="above 0 and at most 1"):
        pool.quantile(0.0)


def ramp(gain: float = 2.0) -> torch.Tensor:
    """Logits that rise from left to right by `gain` a pixel and are 0 between columns 15 and 16."""
    return (gain * (torch.arange(32.0) - 15.5)).expand(1, 1, 32, 32).contiguous()


def test_the_slope_of_a_ramp() -> None:
    torch.testing.assert_close(slope(ramp(2.0)), torch.full((1, 1, 32, 32), 2.0))


def test_a_shifted_ramp_is_displaced_by_its_shift() -> None:
    before = Before.of(ramp(2.0), ramp() > 0, band_px=3)
    assert int(before.band.sum()) == 32 * 6  # three columns to either side
    moved = torch.cat(before.in_band(ramp(2.0) - 2.0 * 1.5))
    torch.testing.assert_close(moved, torch.full((192,), 1.5 / 1.001))
    assert int(before.below_epsilon().sum()) == 0


def test_bands_follow_the_truth_the_prediction_or_either() -> None:
    truth = torch.zeros(1, 1, 32, 32, dtype=torch.bool)
    truth[..., 5:12, 5:12] = True
    counts = {a: int(Before.of(ramp(), truth, around=a).band.sum()) for a in ("truth", "predicted", "either")}
    assert counts["truth"] == 13 * 13 - 1  # a square of side 7, dilated and eroded by 3
    assert counts["predicted"] == 192
    overlap = counts["truth"] + counts["predicted"] - counts["either"]
    assert 0 < overlap < 40


def test_flat_pixels_are_bounded_by_epsilon_and_counted() -> None:
    logits = ramp()
    logits[..., 14:18] = logits[..., 15:16]
    before = Before.of(logits, ramp() > 0, band_px=3)
    assert int(before.below_epsilon()) == 2 * 32
    assert float(before.displacement(logits + 1)[0, 0, 8, 15]) == pytest.approx(1 / (1e-3 * 2.0), rel=1e-5)


def test_an_image_without_a_band_contributes_nothing() -> None:
    truth = torch.stack([ramp()[0] > 0, torch.zeros(1, 32, 32, dtype=torch.bool)])
    logits = ramp().expand(2, -1, -1, -1)
    before = Before.of(logits, truth)
    assert [len(values) for values in before.in_band(logits + 1)] == [192, 0]
    assert [len(values) for values in before.in_image(logits + 1)] == [1024, 0]


def test_the_whole_image_is_divided_by_one_slope() -> None:
    before = Before.of(ramp(2.0), ramp() > 0)
    (values,) = before.in_image(ramp(2.0) + 3.0)
    torch.testing.assert_close(values, torch.full((1024,), 1.5))


def test_a_map_without_slope_gives_numbers() -> None:
    before = Before.of(torch.zeros(1, 1, 32, 32), ramp() > 0)
    for values in (*before.in_band(torch.zeros(1, 1, 32, 32)), *before.in_image(torch.ones(1, 1, 32, 32))):
        assert bool(values.isfinite().all())


@pytest.mark.parametrize("options", [{"around": "mask"}, {"band_px": 0}])
def test_bands_that_cannot_be(options: dict[str, object]) -> None:
    with pytest.raises(MetricError, match="expected"):
        Before.of(ramp(), ramp() > 0, **options)  # type: ignore[arg-type]


def test_shapes_that_differ_are_refused() -> None:
    with pytest.raises(MetricError, match="one shape"):
        Before.of(ramp(), torch.zeros(1, 1, 8, 8, dtype=torch.bool))


def test_leverage_is_displacement_per_percent() -> None:
    built = BoundaryLeverage(4.0)
    built.add(Before.of(ramp(), ramp() > 0), ramp() + 4.0)
    assert built.quantile() == pytest.approx(2 / 1.001 / 4)
    assert built.mean() == pytest.approx(2 / 1.001 / 4)
    assert built.share_below_epsilon == 0
    with pytest.raises(MetricError, match="no leverage"):
        BoundaryLeverage(0.0)


def test_ratios_by_hand() -> None:
    heads, neurons = np.array([[2.0, 4.0, 9.0], [1.0, 1.0, 1.0]]), np.array([[1.0, 2.0], [4.0, 4.0]])
    np.testing.assert_allclose(leverage_ratio(heads, neurons), [4 / 1.5, 0.25])
    np.testing.assert_allclose(specificity(np.array([3.0]), np.array([1.5])), [2.0])
    np.testing.assert_allclose(paired_win_rate(heads, neurons, [(0, 0), (1, 0), (2, 1)]), [1.0, 0.0])
    assert np.isnan(paired_win_rate(heads[0], neurons[0], []))
    np.testing.assert_allclose(damage_density(np.array([0.4, -0.1]), np.array([2.0, 1.0])), 0.05)


def sweep_on(kind: str) -> tuple[StepGrid, dict[Step, float]]:
    model, grid = build_sam(kind, device="meta"), StepGrid()
    params = {level: count(model, make_plan(model, level)).params for level in grid.levels}
    return grid, valid_steps(grid.steps, params, count(model).params)


@pytest.mark.parametrize("kind", ["vit_b", "pocket"])
def test_the_default_sweep_has_the_papers_counts(kind: str) -> None:
    grid, valid = sweep_on(kind)
    assert len(grid.levels) == 49
    assert len(grid.steps) == 2 * 42
    assert sum(step.family == "heads" for step in valid) == 35
    assert sum(step.family == "neurons" for step in valid) == 21
    assert len(paired_cells(list(valid))) == 15
    assert min(valid.values()) > 0


def test_a_head_step_of_vit_b_saves_its_heads() -> None:
    _, valid = sweep_on("vit_b")
    step = Step("heads", Level(0.3, 0.3), Level(0.4, 0.3))
    # 58 instead of 43 heads: qkv rows with bias and proj columns of 64 channels each
    assert valid[step] == pytest.approx(100 * 15 * (3 * 64 * 769 + 64 * 768) / 89_670_912)


def test_paired_cells_start_alike() -> None:
    _, valid = sweep_on("pocket")
    for head, neuron in paired_cells(list(valid)):
        assert head.start == neuron.start
        assert (head.family, neuron.family) == ("heads", "neurons")
        assert head.stop.neurons == head.start.neurons
        assert neuron.stop.heads == neuron.start.heads


@pytest.mark.parametrize("shares", [(0.3,), (0.5, 0.3), (0.3, 0.3)])
def test_shares_of_a_sweep_rise(shares: tuple[float, ...]) -> None:
    with pytest.raises(BudgetError, match="rise"):
        StepGrid(heads=shares)
