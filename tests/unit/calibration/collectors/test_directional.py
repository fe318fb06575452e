"""Directional statistics as `calibrate` collects, stores, cuts, merges and refuses them."""

import os
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny import tiny_batch, tiny_sam
from tiny_samples import Fixed, TinySamples

import medcore_prune as mp
from medcore_prune._support.errors import StatisticsError
from medcore_prune.calibration.collector import Need
from medcore_prune.calibration.statistics import Statistics
from medcore_prune.calibration.sums import Accumulator
from medcore_prune.data.samples import SampleSet

COUNT = 4
BOTH = {Need.DIRECTIONAL_ZERO, Need.DIRECTIONAL_RESET}
LAYER = "image_encoder.blocks.1.mlp.lin2"


def images(count: int = COUNT) -> SampleSet:
    return mp.data.phantoms.make("phantom_skin", seed=5, count=count, size=48)


def halves() -> tuple[Fixed, Fixed]:
    samples, hashes = list(images()), list(images().hashes())
    return Fixed(samples[:2], hashes[:2]), Fixed(samples[2:], hashes[2:])


def calibrate(place: Path, data: Any, reference_seed: int = 1, **options: Any) -> Statistics:
    options = {"samples": COUNT, "cache_dir": place, "progress": False, "needs": BOTH, **options}
    return mp.calibrate(tiny_sam(), tiny_sam(seed=reference_seed), data, **options)


def test_kilobytes_of_one_number_a_unit_and_sum(tmp_path: Path) -> None:
    statistics = calibrate(tmp_path, {"a": images()})
    assert statistics.directional("a", LAYER, "zero").shape == (96,)
    assert statistics.directional("a", LAYER.replace("mlp.lin2", "attn.proj"), "reset").shape == (4,)
    stored = [Path(folder) / file for folder, _, files in os.walk(tmp_path) for file in files]
    # three sums of 4 heads and 96 neurons in 4 blocks, and headers
    assert all(path.stat().st_size < 3 * 4 * 100 * 4 + 20_000 for path in stored)


@pytest.mark.parametrize("direction", ["zero", "reset"])
def test_shards_and_merged_halves_are_one_run(direction: Any, tmp_path: Path) -> None:
    whole = calibrate(tmp_path, {"a": images()})
    sharded = calibrate(tmp_path, {"a": images()}, shards=[2])
    merged = Statistics.merge(calibrate(tmp_path, {"a": half}) for half in halves())
    assert sharded.boundaries() == [2, 4]
    for lambda_b in (0.0, 5.0):
        expected = whole.directional("a", LAYER, direction, lambda_b)
        for other in (sharded, merged):
            got = other.directional("a", LAYER, direction, lambda_b)
            torch.testing.assert_close(got, expected, rtol=1e-3, atol=1e-5 * float(expected.max()))


def test_saved_and_loaded(tmp_path: Path) -> None:
    statistics = calibrate(tmp_path / "cache", {"a": images()})
    statistics.save(tmp_path / "saved")
    loaded = Statistics.load(tmp_path / "saved")
    loaded.require(BOTH)
    for direction in ("zero", "reset"):
        one, other = (each.directional("a", LAYER, direction) for each in (statistics, loaded))  # type: ignore[arg-type]
        assert torch.equal(one, other)
    loaded.check_fits(tiny_sam())


def test_another_reference_is_collected_anew_and_the_rest_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = calibrate(tmp_path, {"a": images()})
    ran: list[list[str]] = []
    original = Accumulator.__init__

    def spy(self: Accumulator, model: Any, collectors: Any, *args: Any, **kwargs: Any) -> None:
        ran.append(list(collectors))
        original(self, model, collectors, *args, **kwargs)

    monkeypatch.setattr(Accumulator, "__init__", spy)
    other = calibrate(tmp_path, {"a": images()}, reference_seed=9)
    assert {tuple(names) for names in ran} == {("directional_reset",)}
    assert torch.equal(first.directional("a", LAYER), other.directional("a", LAYER))
    assert not torch.allclose(first.directional("a", LAYER, "reset"), other.directional("a", LAYER, "reset"))
    # the first one's files are still there
    calibrate(tmp_path, {"a": images()})
    assert len(ran) == 1


def test_an_interrupted_run_goes_on_with_its_own_reference(tmp_path: Path) -> None:
    reads: list[int] = []

    def stop(index: int) -> None:
        reads.append(index)
        if len(reads) == COUNT + 3:  # each is read once before, to see that its object is there
            raise KeyboardInterrupt

    options: Any = {"batch_size": 1, "save_every_s": 0.0}
    with pytest.raises(KeyboardInterrupt):
        calibrate(tmp_path, {"a": TinySamples("a", COUNT, stop)}, **options)
    assert list(tmp_path.rglob("partial-*"))
    # what another reference left is not taken up
    other = calibrate(tmp_path, {"a": TinySamples("a", COUNT)}, 9, needs={Need.DIRECTIONAL_RESET}, **options)
    assert other.counts == {"a": COUNT}
    samples = TinySamples("a", COUNT)
    resumed = calibrate(tmp_path, {"a": samples}, **options)
    assert len(samples.read) == COUNT + 2
    whole = calibrate(tmp_path / "other", {"a": TinySamples("a", COUNT)}, **options)
    assert torch.equal(resumed.directional("a", LAYER, "reset"), whole.directional("a", LAYER, "reset"))
    assert not list(tmp_path.rglob("partial-*"))


def test_different_references_do_not_merge(tmp_path: Path) -> None:
    halves_of = halves()
    parts = [
        calibrate(tmp_path, {"a": half}, seed, needs={Need.DIRECTIONAL_RESET}, samples=2)
        for half, seed in zip(halves_of, (1, 9), strict=True)
    ]
    with pytest.raises(StatisticsError, match="statistics of the reference model come from different weights"):
        Statistics.merge(parts)


def test_a_reference_is_asked_for(tmp_path: Path) -> None:
    with pytest.raises(StatisticsError, match="collecting directional_reset takes a reference model"):
        mp.calibrate(tiny_sam(), None, {"a": images()}, needs=BOTH, cache_dir=tmp_path, progress=False)
    with pytest.raises(StatisticsError, match="DirectionalReset takes a reference model"):
        Accumulator(tiny_sam(), ("directional_reset",))


def test_neurons_that_go_together_are_refused(tmp_path: Path) -> None:
    statistics = calibrate(tmp_path, {"a": images()}, needs={Need.DIRECTIONAL_ZERO})
    with pytest.raises(StatisticsError, match="of single neurons, not of 8 together: use mlp_group_size 1"):
        mp.plan(tiny_sam(), "h30_m50", "directional_zero", statistics=statistics, mlp_group_size=8)


def test_a_cut_model_is_refused(tmp_path: Path) -> None:
    statistics = calibrate(tmp_path, {"a": images()}, needs={Need.DIRECTIONAL_ZERO})
    small = mp.prune(tiny_sam(), mp.make_plan(tiny_sam(), "h50_m50"))
    with pytest.raises(StatisticsError, match=r"proj has shape \(\d,\), the statistics \(4,\): the model was changed"):
        statistics.check_fits(small)


def test_plain_loss_alone_serves_lambda_zero() -> None:
    sums = [Accumulator(tiny_sam(), ("directional_zero",), losses) for losses in (("plain",), ("plain", "band"))]
    for each in sums:
        each.add(*tiny_batch(2))
    alone, both = (each.sums["directional_zero"] for each in sums)
    assert {key.split("/")[0] for key in alone} == {"plain_plain"}
    for key, value in alone.items():
        torch.testing.assert_close(value, both[key], rtol=1e-5, atol=0)
